"""Control groups of version 2, in the kernel that `make test-netem` brings; tests marked `cgroups` run there too."""

import pytest
from support.capped import VERSION


@pytest.mark.netem
def test_groups_here_are_of_version_2() -> None:
    assert VERSION == 2
