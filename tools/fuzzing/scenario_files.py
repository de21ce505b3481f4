"""Scenarios, and the files that they name, as inputs: YAML, traces, arrivals, prompts."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from edgeemu.cluster.draw.cluster import draw as draw_cluster
from edgeemu.run.given_placement import given_placement
from edgeemu.run.requests import make_requests
from edgeemu.scenario.document import read
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml
from edgeemu_kernels.weights.open_model import seeded_model
from fuzzing import corpora
from fuzzing.inputs import Editor, Files, as_json

SCENARIO_WORDS = ["mesh", "star", "line", "1 GB/s", "10 ms", "repeat", "raspberry-pi-4", "closed", "auto", "50 %"]
SCENARIO_WORDS += ["0-3", "0, 2-3", "1/3", "40 %", "pi-1"]
SCENARIO_WORDS += ["<<", "1e30 s", "unlimited", "wifi-5", "smollm2-135m-instruct", "10 Mbit/s", "1 GiB", "2 GFLOPS"]
YAML_WORDS = [
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!python/object ",
    b"? ",
    b"|\n",
    b"---\n",
    b"...\n",
    b"{",
    b"[",
    b"]",
    b"}",
]
YAML_WORDS += [
    b"1e999",
    b".nan",
    b"-.inf",
    b"0x" + b"f" * 90,
    b"\t",
    b"%YAML 1.2\n",
    b": ",
    b"- ",
    b"GB/s",
    b"\xff",
    b"~",
]
TEXT_WORDS = [b",", b"\n", b"nan", b"inf", b"-", b"1e400", b"1e-400", b'"', b"\0", b"\xef\xbb\xbf", b"#", b"repeat"]
TEXT_WORDS += [b"9" * 400, b"1e999999999", b"0x1", b"1_0", b" us", b" ms", b"\r", b"\xc2\xa0", b"\xd9\xa3", b"{", b"["]
PROMPT_WORDS = ["prompt", "text", "tokens", "stop", "repeat", "max_tokens", "seed"]


scenario_texts = cache(corpora.scenario_texts)


@cache
def scenario_trees() -> list[Any]:
    return [read(text.decode(), "s.yaml").data for text in scenario_texts()]


def make_yaml(editor: Editor) -> Files:
    """A scenario that is edited, or one as it is with an edited setting."""
    if editor.odds(0.1):
        return {"scenario.yaml": scenario_texts()[0], "setting": editor.edited(corpora.SETTINGS, YAML_WORDS)}
    if editor.odds(0.5):
        return {"scenario.yaml": editor.edited(scenario_texts(), YAML_WORDS)}
    return {"scenario.yaml": as_json(editor.edited_tree(scenario_trees(), SCENARIO_WORDS))}


def use_scenario(directory: Path) -> None:
    """Read it, draw its cluster, make its requests, write it and read it again."""
    setting = directory / "setting"  # of the command line
    settings = [setting.read_text(errors="surrogateescape")] if setting.exists() else []
    scenario = load_scenario(directory / "scenario.yaml", settings)
    cluster = draw_cluster(scenario)
    if len(cluster.devices) > 1:
        cluster.path(0, 1)
    weights = scenario.model.weights()
    if weights.shape is not None:
        given_placement(scenario, weights.shape)
    has_texts = any(prompt.text is not None for prompt in scenario.workload.prompts)  # then it needs a tokenizer
    if weights.shape is not None and weights.seed is not None and not has_texts:
        make_requests(scenario, seeded_model(weights.shape, weights.seed))
    if len(scenario.workload.prompts) < 1000:  # writing is no reading; it takes 2 kB for each
        assert parse_scenario(to_yaml(scenario), "s", base=directory).devices == scenario.devices


def scenario_with(link: str = "", prompts: str = "[{tokens: 3}, {tokens: 2}]", workload: str = "") -> bytes:
    return (corpora.FILES_SCENARIO % (link, prompts, workload)).encode()


def make_trace(editor: Editor) -> Files:
    name, seeds, text = editor.choose(
        [
            ("rates.csv", corpora.TRACES, scenario_with(link=", bandwidth_trace: rates.csv")),
            ("link.up", corpora.PACKETS, scenario_with(link=", bandwidth_trace: link.up")),
            ("at.txt", corpora.ARRIVALS, scenario_with(workload=", arrivals: {trace: at.txt}")),
            ("mine.yaml", corpora.PLACEMENTS, scenario_with() + b"placement: mine.yaml\n"),
        ]
    )
    return {"scenario.yaml": text, name: editor.edited(seeds, TEXT_WORDS)}


def make_prompts(editor: Editor) -> Files:
    if editor.odds(0.25):
        return {"scenario.yaml": scenario_with(prompts="p.txt"), "p.txt": editor.edited(corpora.LINES, TEXT_WORDS)}
    text = editor.edited(corpora.PROMPTS, TEXT_WORDS)
    if editor.odds(0.5):
        trees = [[json.loads(line) for line in text.splitlines() if line] for text in corpora.PROMPTS]
        tree = editor.edited_tree(trees, PROMPT_WORDS)
        text = b"\n".join(as_json(item) for item in (tree if isinstance(tree, list) else [tree]))
    return {"scenario.yaml": scenario_with(prompts="p.jsonl"), "p.jsonl": text}
