"""The summary of a run as tables and lines for people. Pure; knows no terminal and no files."""

from collections.abc import Iterator, Mapping
from typing import Any

from edgeemu.report.basis import basis_line
from edgeemu.report.certificate import TELLS_WHAT_IT_MEANS
from edgeemu.report.failures import failure_lines
from edgeemu.report.formats import Table, counted, ms_text, number_text, percent_text, size
from edgeemu.units import ENERGY

MAX_SEQUENCES = 20  # listed; the others are in sequences.parquet
MAX_DEVICES = 32  # listed with their memory, the fullest first if there are more; the others are in summary.json

ENDED = {
    "failed": "failed, or stopped by a signal: figures are those up to then",
    "unfinished": "no, the run was killed or still goes on: figures are those up to the last record",
}


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Make the tables of the figures of summary.json that matter most."""
    keys = ("mean", "p50", "p95", "p99")
    latencies = {"time to first token": summary["ttft_ms"], "time per output token": summary["tpot_ms"]}
    wall_clock = {"realtime": "wall-clock time per output token", "virtual": "wall-clock time (not paced)"}
    if summary["mode"] in wall_clock:
        latencies[wall_clock[summary["mode"]]] = summary["wall"]["tpot_ms"]
    times = [[name, *(ms_text(values[key]) for key in keys)] for name, values in latencies.items()]
    return [
        *_sequence_tables(summary),
        Table(("emulated", *(f">{key}" for key in keys)), times),
        _memory_table(summary["memory"]["by_device"]),
    ]


def _memory_table(by_device: Mapping[str, Mapping[str, int]]) -> Table:
    shares = {name: used["peak_bytes"] / used["cap_bytes"] for name, used in by_device.items()}
    names = list(shares)
    if len(names) > MAX_DEVICES:
        names.sort(key=lambda name: shares[name], reverse=True)
        del names[MAX_DEVICES:]
    rows = [
        [name, size(by_device[name]["peak_bytes"]), size(by_device[name]["cap_bytes"]), percent_text(shares[name])]
        for name in names
    ]
    if len(shares) > len(rows):
        rows.append([f"and {len(shares) - len(rows)} more, less full", "", "", ""])
    return Table(("device", ">peak memory", ">of", ">used"), rows)


def _sequence_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Make a table of the sequences, unless they simply followed one another."""
    rows = summary["sequences"]
    if not rows or not (summary["concurrency"] > 1 or any(row["queue_s"] or row["good"] is not None for row in rows)):
        return
    shown = [
        [
            str(row["sequence"] + 1),
            ms_text(1000 * row["arrival_s"]),
            ms_text(1000 * row["queue_s"]),
            ms_text(1000 * row["ttft_s"]),
            ms_text(None if row["tpot_s"] is None else 1000 * row["tpot_s"]),
            str(row["tokens"]),
            {None: "", True: "yes", False: "no"}[row["good"]],
        ]
        for row in rows[:MAX_SEQUENCES]
    ]
    if len(rows) > MAX_SEQUENCES:
        shown.append([f"and {len(rows) - MAX_SEQUENCES} more", *[""] * 6])
    columns = ("prompt", ">arrival", ">queued", ">first token", ">per token", ">tokens", "target met")
    judged = any(row["good"] is not None for row in rows)
    may_go = ("arrival", "tokens", "queued")
    yield Table(columns, shown, may_go) if judged else Table(columns[:-1], [row[:-1] for row in shown], may_go)


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Make the lines below the tables: throughput, energy, changes, and how far the figures can be trusted."""
    certificate = summary["certificate"]
    throughput = summary["throughput_tok_s"]
    tokens = sum(len(sequence) for sequence in summary["tokens"])
    rate = "" if throughput is None else f", {number_text(throughput, 2)} tokens/s"
    means = f" ({certificate['means']})" if certificate["verdict"] in TELLS_WHAT_IT_MEANS else ""
    return [
        f"{counted(tokens, 'token')}{rate}, by {summary['policy']} on {counted(summary['devices'], 'device')}",
        *_energy_lines(summary),
        *_goodput_lines(summary),
        *_idle_lines(summary),
        *_change_lines(summary),
        *failure_lines(summary["failures"]),
        *([f"links: {summary['links']}"] if summary["links"] != "stamped" else []),
        f"certificate: {certificate['verdict']}{means}",
        *(f"  {reason}" for reason in certificate["reasons"]),
        *([basis] if (basis := basis_line(summary["basis"])) else []),
        *([] if summary["ended"] == "done" else [f"ended: {ENDED[summary['ended']]}"]),
        *(
            [f"limitations on this host: {'; '.join(weaker)} (see edgeemu doctor)"]
            if (weaker := summary["weaker"])
            else []
        ),
    ]


def _energy_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Energy; where it is not known, why, if the scenario asks for it."""
    energy, show = summary["energy"], ENERGY.format_human
    budget_j = energy["budget_j"]
    if energy["per_token_j"] is not None:
        allowed = "" if budget_j is None else f" ({show(budget_j)} allowed)"
        yield f"energy: {show(summary['energy_j'])}, {show(energy['per_token_j'])}/token{allowed}"
    elif energy["missing"] and (budget_j is not None or summary["objective"] == "energy"):
        yield f"energy: {energy['missing']}"


def _goodput_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    if goodput := summary["goodput"]:
        rate = number_text(goodput["sequences_per_s"], 2)
        judged = counted(goodput["of"], "sequence")
        yield f"goodput: {goodput['met']} of {judged} met the latency target, {rate} sequences/s"


def _idle_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Share of the time in which devices computed nothing; and why, if no two ever computed at the same time."""
    idle = summary["idle"]
    if not idle or len(idle["by_device"]) < 2:
        return
    low, high = f"{100 * idle['min']:.0f}", f"{100 * idle['max']:.0f}"
    why = ""
    if summary["concurrency"] == 1 and idle["at_work"] <= 1.0 + 1e-9:
        why = ": with one sequence a pipeline has one device at work at a time"
    yield f"devices idle {low if low == high else f'{low}–{high}'} % of the time{why}"


def _change_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Decisions during the run and the migrations that followed; none if the policy was not asked again."""
    decisions, migrations = summary["decisions"], summary["migrations"]
    if decisions["count"]:
        moved = ""
        if migrations["changes"]:
            moved = f", {counted(migrations['count'], 'block')} moved, tokens delayed by {ms_text(migrations['ms'])}"
        given_up = f", {migrations['aborted']} aborted" if migrations["aborted"] else ""
        sent = f", {size(migrations['bytes'])} sent" if migrations["changes"] or migrations["aborted"] else ""
        changes = counted(migrations["changes"], "change")
        yield f"{counted(decisions['count'], 'decision')}: {changes} of placement{moved}{sent}{given_up}"
        share = percent_text(decisions["of_token"], 2)
        took = f"{ms_text(summary['controller_ms']['mean'])} of processor time, {share} of TPOT"
        on = f" on {decisions['on']}" if decisions["on"] else ""
        charged = f"; on the timeline {ms_text(decisions['charged_ms'])}{on}" if decisions["charged_ms"] else ""
        yield f"a decision took {took}{charged}"
    if problems := decisions["problems"]:
        more = f" (and {counted(len(problems) - 1, 'more problem')}; see summary.json)" if len(problems) > 1 else ""
        yield f"problem: {problems[0]}{more}"
    if decisions["given_up"]:
        yield f"policy no longer asked: {decisions['given_up']}"
