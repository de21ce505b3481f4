"""A view and a placement that a user's policy is shown are its own: it may write into them."""

from pathlib import Path

from support.moving import make, to_device

from edgeemu.placement.blocks import EMBED
from edgeemu.run.ask_policy import next_decision
from edgeemu.run.policy_process.separate_policy import SeparatePolicy

POLICY = """\
from edgeemu.placement.blocks import EMBED

def place(view, current):
    current.owner[EMBED] = (current.owner[EMBED] + 1) % len(view.devices)
    return current
"""


def test_a_policy_may_write_into_what_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "rotates.py").write_text(POLICY)
    plan, policy = make(decide=to_device(0)), SeparatePolicy(f"{tmp_path}/rotates.py", 30.0)
    before = dict(plan.placement.owner)
    try:
        made = next_decision(policy, plan.view, plan.placement, 30.0)
    finally:
        policy.close()
    assert (plan.placement.owner, made.problem) == (before, "")
    assert made.placement.owner == {**before, EMBED: (before[EMBED] + 1) % 3}
