"""Pages in a browser, on a phone and dark too: no request, no complaint, and nothing overlaps."""

import json
from pathlib import Path

import pytest
from support.browser import look
from support.commands import Edgeemu

from edgeemu.report.drawn.palette import INK, PAPER

CLUSTERS = {
    "names": """
  - {name: laptop-of-the-lab, gflops: 5 GFLOPS, mem_bandwidth: 0.9 GB/s, memory: 1.2 MiB}
  - {name: raspberry-pi, count: 3, gflops: 2 GFLOPS, mem_bandwidth: 0.5 GB/s, memory: 1 MiB}
  - {name: nano, gflops: 4 GFLOPS, mem_bandwidth: 0.6 GB/s, memory: 2 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 50 us}}
events: [{at_token: 12, device: laptop-of-the-lab, speed: 0.2}]""",
    "25": """
  - {name: edge, count: 25, gflops: 5 GFLOPS, mem_bandwidth: 0.9 GB/s, memory: 900 KiB}
network: {default: {bandwidth: {uniform: {low: 10 Mbit/s, high: 1 Gbit/s}}, delay: 1 ms}}""",
    "star": """
  - {name: node, count: 9, gflops: 5 GFLOPS, mem_bandwidth: 0.9 GB/s, memory: 2 MiB}
network: {topology: star, default: {bandwidth: 100 Mbit/s, delay: 1 ms}, star: {access_point: router}}
workload: {prompts: [{tokens: 9}, {tokens: 5}], max_tokens: 20, concurrency: 2}""",
}
SCENARIO = """
name: moving
model:
  shape: {{n_layers: 6, d_model: 96, n_heads: 6, n_kv_heads: 3, head_dim: 16, d_ff: 256, vocab_size: 400,
          max_context: 300}}
policy: {policy}
decisions: {{interval: 4, time: 0.2 ms}}
devices:{cluster}
"""
SHORT = "\nworkload: {prompts: [{tokens: 9}], max_tokens: 40}"
POLICIES = {"names": "lookahead", "25": "layers", "star": "mdi"}


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


def page_of(edgeemu: Edgeemu, name: str) -> Path:
    text = SCENARIO.format(policy=POLICIES[name], cluster=CLUSTERS[name])
    Path("moving.yaml").write_text(text if "workload" in text else text + SHORT)
    status, out, err = edgeemu("simulate", "moving.yaml", "--json")
    assert status == 0, err
    assert edgeemu("report", json.loads(out)["directory"], "--html", "page.html")[0] == 0
    return Path("page.html").absolute()


@pytest.mark.parametrize("name", CLUSTERS)
def test_pages_of_runs(edgeemu: Edgeemu, tmp_path: Path, name: str) -> None:
    page = page_of(edgeemu, name)
    for width, dark in ((1280, False), (390, True)):
        seen = look(page, width, tmp_path, dark=dark)
        assert (seen.requests, seen.console) == ([], [])
        assert (seen.overlaps, seen.outside) == ([], [])
        assert seen.wider <= 0
        assert seen.pictures >= 8
        assert seen.background == rgb(PAPER.dark if dark else PAPER.light)
        assert seen.color == rgb(INK.dark if dark else INK.light)


def test_a_page_of_a_comparison(edgeemu: Edgeemu, tiny: str, tmp_path: Path) -> None:
    options = ("--policies", "layers,mdi,round-robin", "--simulate", "--html", "page.html")
    assert edgeemu("compare", tiny, *options)[0] == 0
    for width, dark in ((1280, True), (390, False)):
        seen = look(Path("page.html").absolute(), width, tmp_path, dark=dark)
        assert (seen.requests, seen.console, seen.overlaps, seen.outside) == ([], [], [], [])
        assert seen.wider <= 0
        assert seen.pictures == 3


def test_the_switch_is_stronger_than_the_system(edgeemu: Edgeemu, tiny: str, tmp_path: Path) -> None:
    assert edgeemu("compare", tiny, "--policies", "layers", "--simulate", "--html", "page.html")[0] == 0
    page = Path("page.html").absolute()
    text = page.read_text().replace(' id="theme-auto" checked', ' id="theme-auto"')
    page.write_text(text.replace('id="theme-dark"', 'id="theme-dark" checked'))
    assert look(page, 1280, tmp_path, dark=False).background == rgb(PAPER.dark)


def test_what_the_browser_would_say(tmp_path: Path) -> None:
    """The other tests would see a request, a complaint, an overlap, and a page that is too wide."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><meta charset=utf-8><meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
        "style-src 'unsafe-inline'\"><body style='margin: 0'><img src='http://example.invalid/x.png'><div "
        "style='width: 2000px'>wide</div><figure><svg width=100 height=50><text x=1 y=20>one</text><text x=5 "
        "y=22>two</text><text x=90 y=40>outside</text></svg></figure></body>"
    )
    seen = look(page, 1280, tmp_path, dark=False)
    assert seen.requests == ["http://example.invalid/x.png"]
    assert "Content Security Policy" in seen.console[0]
    assert (seen.overlaps, seen.outside, seen.wider) == (["one | two"], ["outside"], 720)
