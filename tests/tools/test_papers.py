"""docs/papers.md: its scenarios run, its sentences have no figures of their own, its commands are those of the tool.

Whether its figures are those that come out is for `tools/papers.py --check` to say: that takes minutes.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios" / "papers"
SHORT = ("workload.max_tokens=2", "workload.prompts=[{tokens: 4}, {tokens: 4}]")
FILES = sorted(path.name for path in SCENARIOS.glob("*.yaml"))
LESS = {"mdi-llm-nanollama.yaml": ("model={name: nanollama-304m, layers: 3}",)}  # it runs on real kernels
LESS_TO_SEARCH = {  # for a policy that tries many placements
    f"edgeshard-llama-2-{size}.yaml": (f"model={{name: llama-2-{size}, layers: 8}}",) for size in ("7b", "13b")
}


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import papers

        yield papers
    finally:
        sys.path.remove(str(ROOT / "tools"))


def jobs(tool: ModuleType) -> list[Any]:
    return [job for module in tool.SECTIONS for job in module.jobs()]


@pytest.mark.usefixtures("clusters_start_warm", "policies_start_warm")
@pytest.mark.parametrize("file", FILES)
def test_every_scenario_runs_under_all_the_policies_that_the_page_shows(tool, file):
    from paperpage.runs import run

    mine = {(job.policy, job.real): job for job in jobs(tool) if job.file == file}
    assert mine
    outcomes = []
    for job in mine.values():
        less = LESS_TO_SEARCH.get(file, ()) if job.policy == "lookahead" else LESS.get(file, ())
        outcomes.append(run(job._replace(settings=()), (*SHORT, *less)))
    ran = [outcome for outcome in outcomes if not outcome.problem]
    assert ran
    assert all(outcome.tokens == 4 and outcome.total_s > 0 for outcome in ran)


class MadeUp(dict[Any, Any]):
    """An outcome for every job, by a rule."""

    def __init__(self, salt: int) -> None:
        self.salt = salt
        super().__init__()

    def __missing__(self, job: Any) -> Any:
        from paperpage.runs import Outcome

        draw = sum(ord(letter) * (n + self.salt) for n, letter in enumerate(str(job))) % 97 / 97
        small_model = "70b" not in job.file and "3b" not in str(job.settings)
        if not small_model and job.policy in ("edge-solo", "cloud-edge-even", "cloud-edge-opt"):
            return Outcome(problem="no room")
        if "model=llama-3.2-3b" in job.settings and "devices[0].count=1" in job.settings:
            return Outcome(problem="no room")
        peaks = tuple(int(1e8 * (draw + n)) for n in range(1, 4))
        return Outcome(
            "", 8, 0.5 + draw, 0.1 + draw, 20 * (0.1 + draw), int(50 * draw), draw, peaks, peaks, (draw, draw / 2)
        )


@pytest.mark.parametrize("salt", range(4))
def test_the_page_can_be_written_whichever_way_figures_fall(tool, salt):
    for module in tool.SECTIONS:
        text = module.section(MadeUp(salt))
        assert text.startswith("## ")
        assert "{" not in re.sub(r"`[^`]*`", "", text)
        for line in (line for line in text.splitlines() if line.startswith("|")):
            assert line.endswith("|")


@pytest.mark.usefixtures("tool")
def test_a_sentence_with_a_figure_of_its_own_is_refused():
    from paperpage.words import sentence

    assert sentence("It takes {time}, in float32.", time="12 ms") == "It takes 12 ms, in float32."
    with pytest.raises(ValueError, match="typed by hand"):
        sentence("It takes 12 ms.")


def test_the_commands_on_the_page_are_those_that_the_tool_runs(tool):
    page = (ROOT / "docs" / "papers.md").read_text("utf-8")
    shown = set(re.findall(r"`(edgeemu (?:run|simulate) [^`]*)`", page))
    known = {job.command() for job in jobs(tool)}
    assert shown
    assert shown <= known
    assert all((ROOT / shlex.split(command)[2]).is_file() for command in shown)


@pytest.mark.usefixtures("tool")
def test_figures_are_written_as_readers_expect():
    from paperpage.words import Spread, change, duration, percent, size, times

    assert [percent(x) for x in (0.123, -0.001, -0.02)] == ["12 %", "0 %", "−2 %"]
    assert [change(x) for x in (0.123, -0.001, -0.02)] == ["+12 %", "0 %", "−2 %"]
    assert [duration(x) for x in (0.0123, 1.5, 684.2)] == ["12.3 ms", "1.50 s", "684 s"]
    assert [size(x) for x in (8.59e9, 425e6)] == ["8.59 GB", "425 MB"]
    assert [times(x) for x in (1.34, 11.8)] == ["1.3 ×", "12 ×"]
    assert Spread.of([3.0, 1.0, 2.0]).shown(times) == "2.0 × (1.0 × to 3.0 ×)"
