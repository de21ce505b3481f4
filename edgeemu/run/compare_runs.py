"""Comparison of runs that have been made already, of one scenario or of several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeemu.errors import EdgeemuError
from edgeemu.report.comparison import JUDGED, Entry, comparison
from edgeemu.report.drawn.across_runs import labels
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.summary import summarise
from edgeemu.run.compare import bounds
from edgeemu.scenario.load import load_scenario
from edgeemu.scenario.scenario import Scenario


def compare_runs(runs: Sequence[RunDirectory]) -> dict[str, Any]:
    """Return the document of a comparison of runs, labelled by what tells them apart; others are repetitions.

    What is possible is proven where all runs have the same cluster and workload, which can take seconds.

    Raises:
        RequestError: the records of a run are damaged.
    """
    facts = [run.read_facts() for run in runs]
    named = list(zip(labels(facts), runs, strict=True))
    entries = []
    for label in dict.fromkeys(label for label, _ in named):
        mine = [(run, each) for (name, run), each in zip(named, facts, strict=True) if name == label]
        summaries = [summarise(run.records, each) for run, each in mine]
        entries.append(Entry(label, summaries, directories=[str(run.path) for run, _ in mine]))
    names = dict.fromkeys(each.scenario for each in facts)
    scenario = _common_scenario([run.path for run in runs])
    known, undivided = ({}, False) if scenario is None else _bounds(scenario)
    judged = JUDGED[facts[0].objective]
    document = comparison(", ".join(names), entries, judged, words=False, bounds=known, undivided=undivided)
    return {**document, "one_cluster": scenario is not None}


def _bounds(scenario: Scenario) -> tuple[dict[str, float], bool]:
    """Prove what no placement can beat, and whether that is without divided layers; not of a model that is gone."""
    try:
        found = bounds(scenario)
    except EdgeemuError:
        found = None
    return ({}, False) if found is None else (found.by_figure, found.undivided)


def _common_scenario(directories: Sequence[Path]) -> Scenario | None:
    """Return the scenario of all runs, but for its policy; None: they differ, or it cannot be read any more."""
    try:
        scenarios = [load_scenario(path / "scenario.yaml") for path in directories]
    except EdgeemuError:
        return None
    alike = [each.model_copy(update={"policy": "single", "placement": None}) for each in scenarios]
    return scenarios[0] if all(each == alike[0] for each in alike) else None
