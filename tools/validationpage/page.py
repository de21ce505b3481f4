"""The page docs/validation.md: what was fitted and predicted of each data set, and where it is wrong."""

from collections.abc import Iterable, Sequence
from statistics import median

from edgeemu.report.figure_texts import human_text
from edgeemu.run.calibrate.measurement import Measurement
from edgeemu.run.calibrate.predictor import Predicted

from .sets import FEW_NODES, DataSet, error

INTRODUCTION = """\
# Predictions held against other people's clusters

`make validation` (`python tools/validation.py`) writes this page, its pictures and
`edgeemu/scenario/catalog/validated.yaml` from [tests/validation](../tests/validation): published measurements, a source
in each row, that nobody made with edgeemu in mind. `--check` says whether they are what it would write, and a test
holds the errors.

A board's figures are fitted to few rows (`edgeemu calibrate`, [calibration.md](calibration.md)), one and two nodes of
one model where there are several nodes; all other rows of the same engine are then predicted. Nothing is ever fitted to
a row that counts as predicted, and no figure of an [engine](scenario.md#engine) is. An error is that of the predicted
time: +10 % means that edgeemu says 10 % longer than was measured."""

WIDTH, HIDDEN = 4096, 11008  # of Llama 2 7B
Q8_0 = 34 / 32  # bytes of a value
THREADS = 4  # of distributed-llama's root

SINGLE = """\
Where all rows of a board are fitted, "predicted" means each row from the others alone."""


def page(sets: Sequence[DataSet]) -> str:
    """Write the page."""
    parts = [INTRODUCTION, "## All data sets", _overall(sets), SINGLE, _summary(sets)]
    parts += [_section(each) for each in sets]
    parts += ["## Where it is wrong", *_wrong(sets)]
    return "\n\n".join(parts) + "\n"


def percent(share: float, sign: bool = True) -> str:
    """A relative error as text."""
    return f"{100 * share:{'+' if sign else ''}.1f} %".replace("-", "−")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a column whose heading starts with ">" is aligned to the right."""
    heads = [column.removeprefix(">") for column in columns]
    rules = ["---:" if column.startswith(">") else "---" for column in columns]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rules, *rows))


def multi_node(sets: Sequence[DataSet]) -> list[float]:
    """Errors of all rows of several boards up to `FEW_NODES` that were only predicted."""
    return [
        error(pair) for each in sets for pair in each.made.rows if not pair[0].fitted and pair[0].nodes <= FEW_NODES
    ]


def _overall(sets: Sequence[DataSet]) -> str:
    errors = list(map(abs, multi_node(sets)))
    singles = [abs(e) for each in sets for e in each.made.errors(fitted=True) if each.left_out]
    return (
        f"On up to {FEW_NODES} nodes, {len(errors)} rows are predicted with a median error of "
        f"{percent(median(errors), sign=False)}, the worst {percent(max(errors), sign=False)}. On single boards one "
        f"bandwidth and one overhead are within {percent(max(singles), sign=False)} of all {len(singles)} rows."
    )


def _summary(sets: Sequence[DataSet]) -> str:
    rows = []
    for each in sets:
        fitted = max(map(abs, each.made.errors(fitted=True)))
        shown = ("–", "–", "–")
        if each.typical is not None and each.worst is not None:
            shown = (percent(each.typical, sign=False), percent(each.worst, sign=False), each.direction)
        count = str(len(each.held))
        rows.append(
            [each.name, each.title, f"`{each.engine}`", each.fitted_on, percent(fitted, sign=False), count, *shown]
        )
    heads = ("set", "boards and software", "engine", "fitted on", ">worst of these", ">predicted")
    return table((*heads, ">median", ">worst", "predicted times are"), rows)


def _section(each: DataSet) -> str:
    figures = [
        f"{field} {human_text(field, value)}"
        + (f" ± {percent(each.made.standard_errors[field], sign=False)}" if field in each.made.standard_errors else "")
        for field, value in each.made.figures.items()
    ]
    refused = [f"- {field}: {why}" for field, why in each.made.refused.items() if field != "gflops"]
    parts = [
        f"### {each.name}: {each.title}",
        f"Fitted on {each.fitted_on}: {', '.join(figures)}.",
        *(["Not fitted:", "\n".join(refused)] if refused else []),
        _rows(each),
        f"![measured and predicted](validation/{each.name}.svg)",
    ]
    return "\n\n".join(parts)


def _rows(each: DataSet) -> str:
    alone = {row.where: pair for pair in each.left_out for row in [pair[0]]}
    rows = []
    for row, predicted in each.made.rows:
        left_out = alone.get(row.where)
        rows.append(
            [
                row.label,
                human_text("duration", row.taken_s),
                human_text("duration", predicted.taken_s),
                percent(error((row, predicted))),
                "fitted" if row.fitted else "predicted",
                percent(error(left_out)) if left_out else "–",
                *_compute(row, predicted),
            ]
        )
    heads = ("measurement", ">measured", ">predicted", ">error", "", ">from the others alone")
    return table((*heads, ">computing, measured", ">predicted"), rows)


def _compute(row: Measurement, predicted: Predicted) -> tuple[str, str]:
    if row.compute_s is None:
        return "–", "–"
    return human_text("duration", row.compute_s), human_text("duration", predicted.compute_s)


def _wrong(sets: Sequence[DataSet]) -> list[str]:
    by_name = {each.name: each for each in sets}
    parts = [
        _eight_nodes(by_name["V1"]),
        _transfer(by_name),
        _busy_with_messages(by_name["V8"]),
        _not_used(),
        _formats(),
    ]
    return [part for part in parts if part]


def _eight_nodes(each: DataSet) -> str:
    """Eight nodes of V1: computing is right, transfer is not."""
    texts, grown, few = [], [], {}
    for row, predicted in sorted(each.made.rows, key=lambda one: one[0].nodes):
        if row.compute_s is None:
            continue
        waited, expected = row.taken_s - row.compute_s, predicted.taken_s - predicted.compute_s
        if row.nodes <= FEW_NODES:
            few[row.model] = waited
            continue
        computing = percent(predicted.compute_s / row.compute_s - 1)
        texts.append(
            f"{row.model}: {percent(error((row, predicted)))}; computing {computing}, but transfer "
            f"{human_text('duration', expected)} instead of {human_text('duration', waited)}, "
            f"{human_text('duration', waited - expected)} more"
        )
        grown.append(f"{waited / few[row.model]:.1f} times for {row.model}")
    answers_bytes = Q8_0 * 3 * WIDTH * 7 / 8  # queries, keys and values, seven eighths of each
    return (
        f"**Eight Raspberry Pi 4 ({each.name}).** {'. '.join(texts)}. The publisher's own columns say so: what boards "
        "compute is predicted, what the network takes is not. What was measured: from four boards to eight transfer "
        f"grows {' and '.join(grown)}; and the publisher, asked why, suspects the switch, a cheap one "
        "([issue 20](https://github.com/b4rtaz/distributed-llama/issues/20)). What we reckon: bytes grow "
        f"{_values(8) / _values(4):.1f} times; calls to send or receive of the root's busiest thread "
        f"{_calls(8) / _calls(4):.1f} times (it has {THREADS} threads, each for some workers in turns, and sends each "
        "slice of the hidden row by itself: src/transformer-tasks.cpp); the longest of seven random delays "
        f"{_harmonic(7) / _harmonic(3):.1f} times, against that of three, if they are exponential. A cost that four "
        "boards have, too, and that grows with one of these, is far from what was measured. Nor do buffers of the "
        "switch have to overflow: seven workers that answer the root at once "
        f"send {answers_bytes / 1000:.0f} kB together, and what the root sends leaves by seven ports. A board that "
        "computes slowly would delay both models by the same share of the computing. Lost packets would explain "
        "it (a timeout is 200 ms at least, TCP_RTO_MIN), and so would a switch or a cable that fails under load; "
        "nobody published which, so that no model of it is built in. Up to four nodes nothing of it is seen."
    )


def _harmonic(n: int) -> float:
    """Mean of the longest of n exponential delays, in means of one."""
    return sum(1 / k for k in range(1, n + 1))


def _values(nodes: int) -> float:
    """Values that a layer of Llama 2 7B sends and gathers, distributed-llama 0.1 (docs/costs.md)."""
    out = (nodes - 1) * (3 * WIDTH + HIDDEN - HIDDEN / nodes)
    return out + (nodes - 1) * (5 * WIDTH + HIDDEN) / nodes


def _calls(nodes: int) -> int:
    """Calls of the root's busiest thread to send and receive for a layer, distributed-llama 0.1."""
    workers_of_a_thread = -(-(nodes - 1) // THREADS)
    slices = nodes - 1  # of the hidden row that a worker lacks
    return workers_of_a_thread * (3 + slices + 6)  # x, attention, x again; q, k, v, columns twice, hidden row


def _transfer(by_name: dict[str, DataSet]) -> str:
    """The published transfer of two and four nodes, which no single cost of a message makes."""
    texts = []
    for name in ("V1", "V2", "V4"):
        made = by_name[name].made
        parts = [
            f"{human_text('duration', row.taken_s - row.compute_s)} on {row.nodes} "
            f"(predicted {human_text('duration', predicted.taken_s - predicted.compute_s)})"
            for row, predicted in made.rows
            if row.compute_s is not None and row.model == "llama-2-7b" and 1 < row.nodes <= FEW_NODES
        ]
        texts.append(f"{name}: {', '.join(parts)}")
    return (
        "**Transfer between nodes of distributed-llama 0.1 to 0.3.** " + "; ".join(texts) + ". Twice it falls from two "
        "nodes to four, though more bytes pass the root, and once it rises. A token has eight messages one after the "
        "other in each layer on two nodes as on four, so that a model of messages has it rise a little. The "
        "publisher's transfer includes waiting for the slowest board. What boards compute is predicted within a few "
        "per cent throughout: the error of the sum is that of the transfer."
    )


def _busy_with_messages(each: DataSet) -> str:
    """MDI-LLM, as long as no figure of its boards is what a message costs their processors."""
    if "message_overhead" in each.made.figures:
        return ""
    return (
        f"**MDI-LLM ({each.name})** is {percent(each.worst or 0.0, sign=False)} off on three boards, and the rows that "
        "were fitted are off too. Python keeps a board's processor busy for every message that it sends and receives, "
        "which a pipeline cannot hide; the timeline has no such cost yet, so that no figure of these boards can be it."
    )


def _not_used() -> str:
    return (
        "**V13 is not used.** llama.cpp's pull request 6829 has one row with a remote board, and its local rows are of "
        "another graphics card: nothing can be fitted to one and predicted for the other."
    )


def _formats() -> str:
    return (
        "**Formats that edgeemu does not run** (Q4_K_M, Q2_K, MLC's INT4) count by the bytes of a weight alone, as the "
        "column `bits_per_weight` has them; V16's AGX Orin does not say its format at all, and its bits are ours. "
        "Boards with two rows have as many figures as rows, which then fit exactly: what another row would say is the "
        "column “from the others alone”."
    )
