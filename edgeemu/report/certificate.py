"""The certificate: whether the host kept the timeline of a run. Knows figures, not how the run was made.

Each rule yields what it found, with the cause and what helps. The thresholds are in `thresholds.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeemu.report.evidence import Evidence, Finding, Level
from edgeemu.report.formats import counted, ms_text, percent_text
from edgeemu.report.lateness import clock_offs, passing_dilation
from edgeemu.report.thresholds import (
    ALLOWED_LAG_OF_TOKEN,
    INVALID_DELAYED,
    INVALID_STALLED,
    NOTICED_OTHERS,
    SATURATED,
    WARN_DECISIONS,
    WARN_DELAYED,
    WARN_LAG_OF_TOKEN,
    WARN_PAUSE_WALL_S,
    WARN_PREDICTION,
    WARN_RELATIVE,
    WARN_RELATIVE_PACED,
    WARN_REORDERED,
    WARN_STEAL,
)
from edgeemu.timeline.retransmission import MIN_RTO_S

_NOT = "it does not say that the timeline is a real cluster's"
MEANS = {  # of PASS, by mode
    "realtime": f"this host kept the timeline; {_NOT}",
    "virtual": f"virtual mode: time is computed, so the host cannot be late; {_NOT}",
    "simulated": "simulated: time is computed, and predictions for such boards were held against measurements",
}
UNCHECKED = "UNCHECKED"  # in place of PASS, of figures that were not measured, and that nobody has held against boards
MEANS_UNCHECKED = "simulated: time is computed, and no kernel has run"
VERDICTS = ("PASS", UNCHECKED, "WARN", "INVALID")  # from good to bad
TELLS_WHAT_IT_MEANS = ("PASS", UNCHECKED)
TOO_SLOW = 50.0  # dilation above which virtual mode is the better advice


def with_verdict(certificate: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """Add findings to a certificate; the worst verdict counts."""
    levels = [certificate["verdict"], *(finding.level for finding in findings)]
    reasons = [*certificate["reasons"], *(finding.reason for finding in findings)]
    return {**certificate, "verdict": max(levels, key=VERDICTS.index), "reasons": reasons}


def certify(evidence: Evidence) -> dict[str, Any]:
    """Make the certificate of summary.json: a verdict, its reasons, what it means, and the figures behind it."""
    operations, load = evidence.operations, evidence.facts.host_load
    found = [finding for rule in RULES for finding in rule(evidence)]
    checked = evidence.facts.mode != "simulated" or ((basis := evidence.facts.basis) is not None and basis.is_validated)
    certificate = {
        "verdict": "PASS" if checked else UNCHECKED,
        "reasons": [],
        "means": MEANS[evidence.facts.mode] if checked else MEANS_UNCHECKED,
        "lag_ms": {
            "mean": 1000 * operations.mean_s,
            "p99": 1000 * operations.p99_s,
            "max": 1000 * operations.latest.late_s if operations.latest else 0.0,
        },
        "lag_of_token": operations.p99_of_token,
        "delayed": operations.delayed,
        "overruns": operations.overruns,
        "reordered": evidence.reordered,
        "pauses": [pause._asdict() for pause in evidence.pauses],
        "stalled_s": dict(evidence.stalled_s),
        "host": None if load is None else load._asdict(),
        "prediction_off": _prediction_off(evidence),
    }
    return with_verdict(certificate, found)


# -- rules: each yields what it finds ---------------------------------------------------------------------------------


def _nothing(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.tokens.number:
        yield Finding("INVALID", "no token was generated")


def _clock(evidence: Evidence) -> Iterator[Finding]:
    for figure, off, warn, invalid in clock_offs(evidence.tokens) if evidence.paced else ():
        if abs(off) > warn:
            level: Level = "INVALID" if abs(off) > invalid else "WARN"
            yield Finding(
                level,
                f"wall-clock {figure} is {percent_text(off, 1, signed=True)} off the emulated one"
                f"{_cause(evidence)}; {_help(evidence)}",
            )


def _pause(evidence: Evidence) -> Iterator[Finding]:
    """Name pauses of the host, also those that the run has caught up."""
    kept = "the emulated figures do not contain it" if evidence.stamped else "what was sent meanwhile may contain it"
    for pause in evidence.pauses:
        where = f"at token {pause.step} of sequence {pause.sequence}"
        harmless = evidence.stamped and (pause.migrating or pause.wall_s < WARN_PAUSE_WALL_S)
        what = f"the host stood still for {pause.wall_s:.2f} s"
        if pause.migrating:
            what = f"moving blocks took the host {pause.wall_s:.2f} s longer than the timeline"
        yield Finding("PASS" if harmless else "WARN", f"{what} {where}; {kept}")


def _clock_jumps(evidence: Evidence) -> Iterator[Finding]:
    """Name sleep of the host and steps of its clock, which devices that wait by the monotonic clock do not see."""
    for jump in evidence.facts.clock_jumps:
        when = f"noticed at {jump.at_s:.3f} s of the timeline"
        if jump.kind == "step":
            yield Finding("PASS", f"the host's clock was set by {jump.by_s:+.2f} s, {when}; no figure is by that clock")
        else:
            kept = "it is in no figure" if evidence.stamped else "what was under way may contain a part of it"
            level: Level = "PASS" if evidence.stamped else "WARN"
            yield Finding(level, f"the host slept for {jump.by_s:.2f} s, {when}; {kept}")


def _standstills(evidence: Evidence) -> Iterator[Finding]:
    """Name devices that were stopped from outside, and went on before they counted as lost."""
    level: Level = "WARN" if evidence.paced else "PASS"
    for name, for_s, at_s in evidence.facts.standstills:
        when = f"and went on at {at_s:.3f} s of the timeline"
        yield Finding(
            level, f"{name} was stopped from outside for about {for_s:.2f} s of the clock, {when}: no device was lost"
        )


def _stall(evidence: Evidence) -> Iterator[Finding]:
    """Name devices whose process stood still on links whose time is measured."""
    wall_s = evidence.tokens.span_s * evidence.facts.dilation
    for device, stalled_s in sorted(evidence.stalled_s.items()):
        level: Level = "INVALID" if wall_s and stalled_s > INVALID_STALLED * wall_s else "WARN"
        yield Finding(
            level,
            f"{device} stood still for {stalled_s:.2f} s in all{_busy(evidence)}; messages that it received meanwhile "
            "count from the beginning of the stall",
        )


def _outages(evidence: Evidence) -> Iterator[Finding]:
    """Name what TCP does about links that were down, where that is real: its timers know no dilation."""
    if evidence.link_outages and not evidence.stamped:
        timer_ms = 1000 * MIN_RTO_S
        yield Finding(
            "PASS",
            f"links that were down or stalled dropped all packets ({counted(evidence.link_outages, 'fault')}), and "
            f"real TCP sent them again: after {timer_ms:.0f} ms of the clock at first, of the timeline "
            f"{ms_text(timer_ms / evidence.facts.dilation)}",
        )


def _lag(evidence: Evidence) -> Iterator[Finding]:
    """Judge how late results were, against their tokens and against their operations."""
    late = evidence.operations
    worst = f", at most {ms_text(1000 * late.latest.late_s)} on {late.latest.device}" if late.latest else ""
    if late.p99_of_token > WARN_LAG_OF_TOKEN:
        yield Finding(
            "WARN",
            f"results are late by up to {percent_text(late.p99_of_token)} of a token (p99{worst})"
            f"{_cause(evidence)}; {_help(evidence)}",
        )
    if late.delayed > WARN_DELAYED:
        level: Level = "INVALID" if late.delayed > INVALID_DELAYED else "WARN"
        yield Finding(
            level,
            f"{percent_text(late.delayed)} of the operations are late by more than their own duration and "
            f"{percent_text(ALLOWED_LAG_OF_TOKEN)} of a token (p99 {ms_text(1000 * late.p99_s)}{worst})"
            f"{_cause(evidence)}; {_help(evidence)}",
        )


def _reordering(evidence: Evidence) -> Iterator[Finding]:
    share = evidence.reordered / evidence.messages if evidence.messages else 0.0
    if evidence.paced and share > WARN_REORDERED:
        yield Finding(
            "WARN",
            f"{percent_text(share, 1)} of the messages met a link out of the order of departure, so their queueing "
            f"is not exact{_cause(evidence)}; {_help(evidence)}",
        )


def _prediction(evidence: Evidence) -> Iterator[Finding]:
    """Judge TPOT against the timeline's prediction, where the two have to agree."""
    off = _prediction_off(evidence)
    if off is None or not evidence.stamped:
        return
    allowed, why = WARN_PREDICTION, "although neither placement nor cluster changed"
    if evidence.facts.relative_devices:
        allowed = WARN_RELATIVE_PACED if evidence.paced else WARN_RELATIVE
        why = "this host ran the kernels faster or slower than in the warm-up; repeat it on a calm host"
    if abs(off) > allowed:
        yield Finding("WARN", f"TPOT is {percent_text(off, 1, signed=True)} off the timeline's prediction: {why}")


def _host_dependent(evidence: Evidence) -> Iterator[Finding]:
    """Say which figures contain the speed of this host."""
    facts = evidence.facts
    if facts.relative_devices:
        names = ", ".join(facts.relative_devices[:3]) + (", …" if len(facts.relative_devices) > 3 else "")
        yield Finding("PASS", f"figures contain the speed of this host: {names} are given as a fraction of it")
    yield from _time_of_decisions(evidence)


def _time_of_decisions(evidence: Evidence) -> Iterator[Finding]:
    """Say what the policy takes of a token: in the figures of this run, or else on top of them in a real cluster."""
    facts, decisions = evidence.facts, evidence.decisions
    if facts.decisions_measured and len(decisions.took_s):
        scaled = f" scaled to {facts.decided_on}" if facts.decided_on else ""
        charged = evidence.share_of_token(decisions.charged_s)
        yield Finding(
            "WARN" if charged > WARN_DECISIONS else "PASS",
            f"figures contain the policy's processor time on this host{scaled}, {percent_text(charged, 1)} of TPOT; "
            "decisions.time: 0 s leaves it out",
        )
    share = evidence.share_of_token(decisions.took_s)
    if share > WARN_DECISIONS and not decisions.charged_s.any():
        yield Finding(
            "WARN",
            f"the policy took {percent_text(share, 1)} of TPOT in processor time of this host, which is not on the "
            "timeline, and which a real cluster would have to spend; decisions.time charges it, decisions.interval "
            "asks less often",
        )


def _decided(evidence: Evidence) -> Iterator[Finding]:
    decisions = evidence.decisions
    for problems, what in ((decisions.failed, "failed"), (decisions.refused, "refused by devices")):
        if problems:
            yield Finding("WARN", f"{counted(len(problems), 'decision')} {what}: {problems[0]}")
    if decisions.cut:
        yield Finding(
            "WARN",
            f"{counted(len(decisions.cut), 'decision')} cut by decisions.limit, on which the figures depend as on the "
            f"speed of this host: {decisions.cut[0]}",
        )
    if decisions.given_up:
        yield Finding("WARN", decisions.given_up)


def _resumed(evidence: Evidence) -> Iterator[Finding]:
    """Say which runs this one went on from: until then, figures are theirs."""
    for run, at_s in ((each.run, each.at_s) for each in evidence.facts.resumed):
        yield Finding("PASS", f"resumed from {run} at {at_s:.3f} s: rows up to then are that run's")


def _steal(evidence: Evidence) -> Iterator[Finding]:
    load = evidence.facts.host_load
    if evidence.paced and load is not None and load.steal > WARN_STEAL:
        yield Finding("WARN", f"the hypervisor gave {percent_text(load.steal)} of the processor time to other guests")


RULES = (
    _nothing,
    _clock,
    _pause,
    _clock_jumps,
    _standstills,
    _stall,
    _outages,
    _lag,
    _reordering,
    _prediction,
    _decided,
    _steal,
    _host_dependent,
    _resumed,
)


# -- causes, and what helps -------------------------------------------------------------------------------------------


def _cause(evidence: Evidence) -> str:
    """Say why the clock fell behind, as far as it is known."""
    if evidence.pauses:
        migrating = all(pause.migrating for pause in evidence.pauses)
        return ": moving blocks took the host long" if migrating else ": the host stood still"
    return _busy(evidence) or _overran(evidence) + _beside(evidence)


def _busy(evidence: Evidence) -> str:
    load = evidence.facts.host_load
    if load is None or load.busy < SATURATED:
        return ""
    busy, others = percent_text(load.busy), percent_text(load.others)
    return f": {counted(load.cores, 'processor')} were {busy} busy, {others} with other programs"


def _overran(evidence: Evidence) -> str:
    share = evidence.operations.overruns
    return f": {percent_text(share)} of the kernels took longer here than their operations do" if share else ""


def _beside(evidence: Evidence) -> str:
    """Name other programs that held processors for a part of the run, which were not full all the time."""
    load = evidence.facts.host_load
    if load is None or load.others < NOTICED_OTHERS:
        return ""
    return f"; other programs took {percent_text(load.others)} of {counted(load.cores, 'processor')}"


def _help(evidence: Evidence) -> str:
    if evidence.pauses and not evidence.pauses[0].migrating:
        return "run it again, where nothing stops or suspends its processes"
    passing = passing_dilation(evidence.tokens, evidence.operations, evidence.facts.dilation)
    if passing > TOO_SLOW:
        return "use time.mode: virtual, or a faster host"
    return f"time.dilation {passing:g} would pass"


def _prediction_off(evidence: Evidence) -> float | None:
    """Deviation of TPOT from the prediction, decisions left out; None where they need not agree."""
    facts, tpot_s = evidence.facts, evidence.tpot_s
    if (
        evidence.changed
        or facts.resumed
        or facts.predicted is None
        or not (predicted_ms := facts.predicted.get("tpot_ms"))
        or not tpot_s
    ):
        return None
    decided_s = evidence.per_token_s(evidence.decisions.charged_s)
    return 1000 * (tpot_s - decided_s) / predicted_ms - 1.0
