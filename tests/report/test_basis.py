"""Basis of figures in words and in documents, and what a simulation may therefore claim."""

import pytest
from support.facts import some_facts

from edgeemu.report.basis import UNHELD, Basis, HeldAgainst, basis_document, basis_line
from edgeemu.report.rows import TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.report.summary import summarise
from edgeemu.report.summary_tables import summary_lines

FIGURES = {"peak": ["gflops of a", "gflops of b", "nic of c"], "given": ["delay of links"]}
HELD = HeldAgainst("Raspberry Pi 4", "V1", 0.006, 0.039, calibrated=False)
CALIBRATED = HeldAgainst("Raspberry Pi 4", "V1", 0.006, 0.039, calibrated=True)


def test_the_worst_label_is_named_with_its_figures() -> None:
    line = basis_line(basis_document(Basis("ideal", FIGURES)))
    assert (
        line == f"figures rest on peaks of data sheets (gflops of a, gflops of b, …) at worst; engine ideal; {UNHELD}"
    )
    only = basis_line(basis_document(Basis("ideal", {"given": ["delay of links"]})))
    assert only == f"figures rest on what the scenario gives (delay of links); engine ideal; {UNHELD}"


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (HELD, "; calibrated, predictions for Raspberry Pi 4 were 0.6 % off in the median"),
        (HELD, ", 3.9 % at most (V1), and these are not calibrated"),
        (CALIBRATED, "; predictions for Raspberry Pi 4 were 0.6 % off in the median, 3.9 % at most (V1)"),
    ],
)
def test_errors_of_predictions_are_told_with_whether_they_are_of_calibrated_boards(
    held: HeldAgainst, words: str
) -> None:
    basis = Basis("distributed-llama-0.1", {"derived": ["gflops of a"]}, held)
    assert words in basis_line(basis_document(basis))
    assert basis.is_validated == held.calibrated


def test_records_of_before_it_was_told_say_nothing_of_it() -> None:
    assert basis_document(None) is None
    assert basis_line(None) == ""


@pytest.mark.parametrize(("held", "verdict"), [(None, "UNCHECKED"), (HELD, "UNCHECKED"), (CALIBRATED, "PASS")])
def test_a_simulation_passes_only_where_such_predictions_were_held_against_measurements(
    held: HeldAgainst | None, verdict: str
) -> None:
    records = RowsInMemory()
    records.append(
        "tokens", [TokenRow(0, step, 1, "a", 0.1 * step, 0.1 * step, 0.1, 0.1 * step, 0.1) for step in range(3)]
    )
    made = summarise(records, some_facts(basis=Basis("ideal", FIGURES, held)))
    certificate, lines = made["certificate"], summary_lines(made)
    assert (certificate["verdict"], certificate["reasons"]) == (verdict, [])
    assert f"certificate: {verdict} ({certificate['means']})" in lines
    assert any(line.startswith("figures rest on peaks of data sheets") for line in lines)
    assert (made["basis"]["label"], made["basis"]["held_against"] is None) == ("peak", held is None)
    assert summarise(RowsInMemory(), some_facts())["certificate"]["verdict"] == "INVALID", "no token"
