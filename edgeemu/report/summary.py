"""The summary of a run, made from its records and facts by one function. Knows no devices, clocks or processes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeemu.report.basis import basis_document
from edgeemu.report.certificate import certify, with_verdict
from edgeemu.report.energy import account
from edgeemu.report.evidence import Evidence
from edgeemu.report.facts import RunFacts
from edgeemu.report.failures import failures_document, link_outages, without_hangs
from edgeemu.report.figures import (
    DecisionFigures,
    MigrationFigures,
    OperationFigures,
    RecordTables,
    TokenFigures,
    decision_figures,
    largest_by_device,
    message_count,
    migration_figures,
    operation_figures,
    sequence_rows,
    token_figures,
    total_by_device,
)
from edgeemu.report.lateness import OperationLateness, Pauses, find_pauses, moves_caught_up, operation_lateness
from edgeemu.report.link_certificate import judge_links, links_document
from edgeemu.report.rows import SequenceRow
from edgeemu.report.statistics import in_order, ratio, statistics_ms


def summarise(records: RecordTables, facts: RunFacts) -> dict[str, Any]:
    """Make the contents of summary.json, of a run that has ended, was killed, or goes on.

    TTFT and TPOT are emulated; TPOT is over all tokens but the first of each sequence. `wall.inflation` is the time
    that the clock took for the tokens over the time on the timeline. Where there is no sample there is null. The
    makespan is from the first arrival to the last token.
    """
    sequences = sequence_rows(records)
    tokens = token_figures(records, sequences, facts.dilation)
    ops = operation_figures(records)
    decisions, migrations = decision_figures(records), migration_figures(records)
    controller_ms = statistics_ms(decisions.took_s if len(decisions.took_s) else [facts.placed_in_s])
    evidence = _evidence(records, facts, tokens, decisions, migrations)
    latencies = _latencies(tokens)
    return {
        "scenario": facts.scenario,
        "policy": facts.policy,
        "model": facts.model,
        "devices": len(facts.devices),
        "text": tokens.texts,
        "tokens": tokens.tokens,
        **latencies,
        "throughput_tok_s": tokens.number / tokens.span_s if tokens.span_s > 0 else None,
        "makespan_s": tokens.span_s,
        "goodput": _goodput(sequences, tokens.span_s),
        "sequences": [row._asdict() for row in sequences],
        "idle": _idle(ops.busy_s, tokens.span_s),
        "utilisation": utilisation(facts, ops),
        "wall": _wall(tokens),
        "migrations": migrations.totals,
        "memory": _memory(records, facts),
        "controller_ms": {key: controller_ms[key] for key in ("mean", "p99")},
        "certificate": _with_links(certify(evidence), evidence),
        "basis": basis_document(facts.basis),
        **_energy(facts, tokens, ops),
        "objective": facts.objective,
        "mode": facts.mode,
        "concurrency": facts.concurrency,
        "cost": facts.cost,
        "dilation": facts.dilation,
        "decisions": {
            "count": len(decisions.took_s),
            "of_token": evidence.share_of_token(decisions.took_s),
            "charged_ms": statistics_ms(decisions.charged_s)["mean"],
            "on": facts.decided_on,
            "problems": decisions.problems,
            "given_up": decisions.given_up,
        },
        "failures": failures_document(records, facts, tokens.end_s - tokens.span_s, tokens.end_s),
        "weaker": facts.limitations,
        "ready_s": facts.ready_s,
        "loaded_s": facts.loaded_s,
        "predicted": facts.predicted,
        "links": facts.links,
        "ended": facts.ended,
    }


def _evidence(
    records: RecordTables,
    facts: RunFacts,
    tokens: TokenFigures,
    decisions: DecisionFigures,
    migrations: MigrationFigures,
) -> Evidence:
    """Collect what the certificate rests on."""
    reordered = facts.reordered
    if reordered is None:
        reordered = sum(largest_by_device(records, "reordered").values())
    pauses, operations = Pauses([], np.empty(0, np.int64)), OperationLateness()
    if facts.mode == "realtime":
        spans_s = list(migrations.spans_s.values())
        pauses = find_pauses(tokens, facts.dilation, spans_s)
        pauses = moves_caught_up(records, tokens, pauses, facts.dilation, spans_s)
        operations = operation_lateness(records, tokens, pauses, facts.dilation)
    return Evidence(
        facts=facts,
        tokens=tokens,
        pauses=pauses.found,
        operations=operations,
        decisions=decisions,
        changed=facts.has_events or bool(migrations.spans_s),
        messages=message_count(records),
        reordered=reordered,
        stalled_s=without_hangs(records, total_by_device(records, "stalled_s"), facts.dilation),
        link_outages=link_outages(records),
    )


def _latencies(tokens: TokenFigures) -> dict[str, Any]:
    first, later = tokens.latency_s[tokens.first], tokens.latency_s[~tokens.first]
    return {"ttft_ms": statistics_ms(first), "tpot_ms": statistics_ms(later)}


def _wall(tokens: TokenFigures) -> dict[str, Any]:
    """Latencies by the clock, divided by the dilation."""
    first, later = tokens.first, ~tokens.first
    return {
        "ttft_ms": statistics_ms(tokens.wall_latency_s[first]),
        "tpot_ms": statistics_ms(tokens.wall_latency_s[later]),
        "inflation": ratio(in_order(tokens.wall_latency_s[later]), in_order(tokens.latency_s[later])),
    }


def _goodput(sequences: Sequence[SequenceRow], span_s: float) -> dict[str, float | int] | None:
    """Count sequences that met the latency target, in all and per second; None where there is no target.

    As request goodput is in serving benchmarks (Zhong et al., DistServe, OSDI 2024; vLLM's benchmark_serving.py).
    """
    judged = [row.good for row in sequences if row.good is not None]
    if not judged or span_s <= 0:
        return None
    return {"sequences_per_s": sum(judged) / span_s, "met": sum(judged), "of": len(judged)}


def _idle(busy_s: Mapping[str, float], span_s: float) -> dict[str, Any] | None:
    """Share of the time in which devices computed nothing, of those that computed at all."""
    if not busy_s or span_s <= 0:
        return None
    idle = {device: 1.0 - spent_s / span_s for device, spent_s in sorted(busy_s.items())}
    at_work = sum(spent_s for _, spent_s in sorted(busy_s.items())) / span_s  # in no order of arrival
    return {"min": min(idle.values()), "max": max(idle.values()), "at_work": at_work, "by_device": idle}


def utilisation(facts: RunFacts, ops: OperationFigures) -> dict[str, dict[str, float | None]]:
    """Share of its bandwidth of memory (MBU) and of its arithmetic (MFU) that each device used while it computed.

    By device that computed; None where its rates are relative to this host. As MFU in Chowdhery et al. (PaLM, 2022,
    section 4.1), and MBU in Agarwal et al. (LLM Inference Performance Engineering, Databricks, 2023).
    """
    found: dict[str, dict[str, float | None]] = {}
    for device in facts.devices:
        if not (busy_s := ops.busy_s.get(device.name)):
            continue
        done = (ops.bytes_read, device.mem_bytes_per_s), (ops.flops, device.flops_per_s)
        shares = [None if rate is None else work[device.name] / busy_s / rate for work, rate in done]
        found[device.name] = dict(zip(("mbu", "mfu"), shares, strict=True))
    return found


def _memory(records: RecordTables, facts: RunFacts) -> dict[str, Any]:
    """Peaks of the ledgers, and what the system reports of the processes."""
    peaks = facts.peak_bytes if facts.peak_bytes is not None else largest_by_device(records, "peak_bytes")
    by_device = {
        device.name: {
            "peak_bytes": peaks.get(device.name, 0),
            "cap_bytes": device.cap_bytes,
            "reserved_bytes": device.reserved_bytes,
            "weights_bytes": facts.weights_bytes.get(device.name),
            "resident_bytes": facts.resident_bytes.get(device.name),
            "baseline_bytes": facts.baseline_bytes.get(device.name),
            "group_peak_bytes": facts.group_peak_bytes.get(device.name),
        }
        for device in facts.devices
    }
    return {
        "peak_bytes_max": max((used["peak_bytes"] or 0 for used in by_device.values()), default=0),
        "by_device": by_device,
    }


def _energy(facts: RunFacts, tokens: TokenFigures, ops: OperationFigures) -> dict[str, Any]:
    """Energy from the first arrival to the last token, and the budget for it."""
    spent = account(facts.devices, tokens.span_s, ops.exact_busy_s, facts.radio, facts.missing_power)
    names = [device.name for device in facts.devices]
    return {
        "energy_j": spent.total_j,
        "energy": {
            "per_token_j": spent.total_j / tokens.number if spent.total_j is not None and tokens.number else None,
            "budget_j": facts.energy_budget_j,
            "missing": spent.missing or None,
            "by_device": {name: each._asdict() for name, each in zip(names, spent.devices, strict=True)},
        },
    }


def _with_links(certificate: dict[str, Any], evidence: Evidence) -> dict[str, Any]:
    """Add the self-test of kernel links."""
    facts, off = evidence.facts, certificate["prediction_off"]
    if not facts.link_tests:
        return certificate
    tpot_ms = None if evidence.tpot_s is None else 1000 * evidence.tpot_s
    findings = list(judge_links(facts.link_tests, facts.dilation, tpot_ms, off))
    return with_verdict(certificate, findings) | {"links": links_document(facts.link_tests, facts.dilation, off)}
