"""Surroundings of system tests: clusters and policies that they start here start warm; links of the kernel for them."""

from collections.abc import Iterator

import pytest
from support.kernel_links import KINDS, Links, links_of, named

from edgeemu.links.netns.capabilities import Capabilities, probe_host


@pytest.fixture(autouse=True)
def always_warm(clusters_start_warm: None, policies_start_warm: None) -> None: ...


@pytest.fixture(scope="module")
def host() -> Capabilities:
    return probe_host()


@pytest.fixture(params=KINDS, ids=named)
def links(request: pytest.FixtureRequest, host: Capabilities) -> Iterator[Links]:
    with links_of(request.param, host) as found:
        yield found
