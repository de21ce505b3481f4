"""A device whose process is stopped for a while is named, whatever carries its messages."""

import pytest
from stalls import Stall, summary_of, trial_holds

from edgeemu.links.netns.capabilities import probe_host

pytestmark = pytest.mark.alone  # pauses of the host are what it looks for
STALL = Stall("b", token=8, after_s=0.01, lasts_s=0.3)


@pytest.mark.parametrize("links", ["stamped", "hybrid"])
def test_a_stopped_device_is_named(links: str) -> None:
    if links != "stamped" and (why := probe_host().why_not(links)):
        pytest.skip(why)
    summary = summary_of(links, ["workload.max_tokens=20"], STALL)
    certificate = summary["certificate"]
    assert certificate["verdict"] != "PASS"
    assert any("stood still" in reason for reason in certificate["reasons"])
    assert trial_holds(summary, summary) == (True, 0.0)
    if links == "hybrid":
        assert certificate["stalled_s"]["b"] > 0.25
    else:
        # How much later depends on how soon this host wakes who stops the device; it may have pauses of its own.
        assert any(pause["wall_s"] > 0.25 and pause["step"] >= STALL.token for pause in certificate["pauses"])
