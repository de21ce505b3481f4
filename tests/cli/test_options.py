"""Options that commands share: a scenario is loaded with the day that its chat templates may write."""

import re
from pathlib import Path

from edgeemu.cli.options import load
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.scenario.load import to_yaml

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"


def test_a_scenario_without_a_date_gets_the_day_of_the_command_and_keeps_it() -> None:
    date = load(QUICKSTART, None).workload.date
    assert date is not None
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", date)
    given = load(QUICKSTART, ["workload.date=2024-02-29"])
    assert given.workload.date == "2024-02-29"
    assert "2024-02-29" in to_yaml(resolve(given))
