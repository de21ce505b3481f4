"""Caps and their removal under control groups of version 2, in the kernel that `make test-netem` brings."""

from pathlib import Path

import pytest
import test_caps
import test_clean

pytestmark = pytest.mark.netem


def test_groups_here_are_of_version_2() -> None:
    assert test_caps.VERSION == 2


def test_a_process_that_exceeds_its_group_is_killed_and_counted() -> None:
    test_caps.test_a_process_that_exceeds_its_group_is_killed_and_counted()


def test_a_group_with_a_process_in_it_is_not_removed() -> None:
    test_caps.test_a_group_with_a_process_in_it_is_not_removed()


@pytest.mark.parametrize(("entry", "page"), [("hog", "cache"), ("hog_at_once", "nothing yet")])
def test_the_kernel_ends_a_device_that_takes_more_than_its_cap(tmp_path: Path, entry: str, page: str) -> None:
    test_caps.test_the_kernel_ends_a_device_that_takes_more_than_its_cap(tmp_path, entry, page)


def test_a_device_that_keeps_to_its_ledger_is_never_killed(tmp_path: Path) -> None:
    test_caps.test_a_device_that_keeps_to_its_ledger_is_never_killed(tmp_path, "cgroup")


def test_a_killed_controller_leaves_nothing_once_its_server_has_ended(tmp_path: Path) -> None:
    test_clean.test_a_killed_controller_leaves_nothing_once_its_server_has_ended(tmp_path)


def test_what_a_killed_server_leaves_is_removed(tmp_path: Path) -> None:
    test_clean.test_a_server_killed_with_its_controller_leaves_a_group_and_a_directory(tmp_path)
