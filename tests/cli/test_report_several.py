"""`report` of several runs is a comparison of them, and `compare` writes the same page."""

import json
from pathlib import Path

import pytest
from support.commands import Edgeemu
from support.html_pages import read_page

ONE = "devices=[{name: pi, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}]"


def simulated(edgeemu: Edgeemu, scenario: str, *options: str) -> str:
    status, out, err = edgeemu("simulate", scenario, "--json", *options)
    assert status == 0, err
    directory: str = json.loads(out)["directory"]
    return directory


def test_runs_of_one_scenario_are_told_apart_by_their_policy(edgeemu: Edgeemu, tiny: str) -> None:
    runs = [simulated(edgeemu, tiny, "--policy", policy) for policy in ("layers", "round-robin", "layers")]
    status, out, err = edgeemu("report", *runs, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["one_cluster"] is True
    assert {row["policy"]: len(row["runs"]) for row in document["policies"]} == {"layers": 2, "round-robin": 1}
    assert document["bounds"]["tpot_ms"] > 0
    _, table, _ = edgeemu("report", *runs)
    assert table.startswith("policy ")
    assert "possible: no placement" in table


def test_a_run_that_is_named_twice_counts_once(edgeemu: Edgeemu, tiny: str) -> None:
    one, other = (simulated(edgeemu, tiny, "--policy", policy) for policy in ("layers", "round-robin"))
    _, out, _ = edgeemu("report", one, other, f"{one}/", "--json")
    assert [row["runs"] for row in json.loads(out)["policies"]] in ([[one], [other]], [[other], [one]])


def test_runs_of_several_clusters_are_told_apart_by_their_devices(edgeemu: Edgeemu, tiny: str) -> None:
    runs = [simulated(edgeemu, tiny), simulated(edgeemu, tiny, "--set", ONE)]
    _, out, _ = edgeemu("report", *runs)
    assert "3 devices" in out
    assert "1 device " in out
    assert "possible: not asked, since the runs differ in more than their policy" in out
    status, _, _ = edgeemu("report", *runs, "--html", "page.html", "--figures", "figures")
    assert status == 0
    page = read_page(Path("page.html"))
    assert page.sections == ["figures", "time", "tokens", "scaling", "runs"]
    assert page.references == []
    scaling = [page.texts(number) for number in range(len(page.pictures)) if "devices" in page.texts(number)]
    assert all("tokens/s after the first" in texts for texts in scaling)
    assert len(scaling) == 2
    assert {file.stem for file in Path("figures").iterdir()} == {
        *("gap", "compared-parts", "time-against-tokens", "scaling")
    }


def test_measured_points_stand_beside_the_scaling(edgeemu: Edgeemu, tiny: str) -> None:
    Path("measured.csv").write_text(
        "set,model,weights,nodes,link,value,unit\n"
        "a,llama-2-7b,q4_0,1,,100,ms\na,llama-2-7b,q4_0,3,ethernet-1g,25,tok/s\nb,llama-2-7b,q4_0,7,ethernet-1g,9,tok/s\n"
    )
    runs = [simulated(edgeemu, tiny), simulated(edgeemu, tiny, "--set", ONE)]
    options = ("--measured", "measured.csv", "--only", "set=a", "--html", "page.html")
    status, _, err = edgeemu("report", *runs, *options)
    assert status == 0, err
    page = read_page(Path("page.html"))
    scaling = [set(page.texts(number)) for number in range(len(page.pictures)) if "measured" in page.texts(number)]
    assert len(scaling) == 2
    assert all({"1", "3"} <= texts and "7" not in texts for texts in scaling)


@pytest.mark.usefixtures("figures_are_svg")
def test_a_comparison_leaves_a_page(edgeemu: Edgeemu, tiny: str) -> None:
    options = ("--policies", "layers,mdi", "--simulate", "--html", "page.html", "--figures", "figures")
    status, out, err = edgeemu("compare", tiny, *options)
    assert status == 0, err
    assert "written: page.html" in err
    page = read_page(Path("page.html"))
    assert page.sections == ["figures", "time", "tokens", "runs"]
    assert [row[0] for row in page.tables[0][1:]] == [
        line.split()[0] for line in out.splitlines() if "UNCHECKED" in line
    ]
    assert "Gap to the optimum" in page.text


def test_a_comparison_of_several_draws_leaves_a_page(edgeemu: Edgeemu, tiny: str) -> None:
    options = ("--policies", "layers,mdi", "--simulate", "--seeds", "2", "--html", "page.html")
    status, _, err = edgeemu("compare", tiny, *options)
    assert status == 0, err
    page = read_page(Path("page.html"))
    assert page.sections == ["figures", "time", "tokens", "runs"]
    assert len(page.tables[-1]) == 1 + 2 * 3, "two draws of three policies"
    assert "Possible: not asked" in page.text or "possible: not asked" in page.text


def test_why_is_asked_of_one_run(edgeemu: Edgeemu, tiny: str) -> None:
    runs = simulated(edgeemu, tiny), simulated(edgeemu, tiny)
    assert edgeemu("report", *runs, "--why") == (2, "", "edgeemu: RUN: --why is of one run; name one\n")


@pytest.mark.usefixtures("figures_are_svg")
@pytest.mark.parametrize("policies", [("layers", "mdi", "round-robin")])
def test_lines_of_time_against_tokens(edgeemu: Edgeemu, tiny: str, policies: tuple[str, ...]) -> None:
    runs = [simulated(edgeemu, tiny, "--policy", policy) for policy in policies]
    edgeemu("report", *runs, "--figures", "figures")
    drawn = Path("figures/time-against-tokens.svg").read_text()
    assert all(policy in drawn for policy in (*policies, "time (s)", "tokens generated"))
