"""EdgeShard (arXiv 2405.14371): jobs, and what comes of them beside what the paper claims."""

from edgeemu.scenario.catalog.profile_files import read_profile
from edgeemu.units import BIT_RATE, BYTE_RATE

from .runs import POSSIBLE, ROOT, Found, Job, Outcome
from .words import Claim, change, claims_table, duration, listed, percent, rate, sentence, table, times

MODELS = ("7b", "13b", "70b")
MBPS = (1, 5, 10, 25, 50)  # of the link between source and cloud
SLOW, FAST = MBPS[0], MBPS[-1]
BASELINES = ("edge-solo", "cloud-edge-even", "cloud-edge-opt")
LATENCY, THROUGHPUT = "edgeshard-latency", "edgeshard-throughput"
PIPELINES = ("no-bubbles", "bubbles")
PROFILE = "boards/jetson-agx-orin.int4.yaml"  # as others measured one (docs/validation.md, V16-agx)
CALIBRATED = (f"devices[0].profile=../../{PROFILE}", "devices[0].memory=32 GiB")
POLICIES_SHOWN = (*BASELINES, LATENCY, THROUGHPUT)


def _file(model: str) -> str:
    return f"edgeshard-llama-2-{model}.yaml"


def latency(model: str, policy: str, mbps: int = SLOW) -> Job:
    """One sequence alone."""
    return Job(_file(model), policy, ("workload.prompts=[{tokens: 32}]", *_link(mbps)))


def throughput(model: str, policy: str, pipeline: str = PIPELINES[0], mbps: int = SLOW) -> Job:
    way = () if pipeline == PIPELINES[0] else (f"workload.pipeline={pipeline}",)
    return Job(_file(model), policy, (*way, *_link(mbps)))


def _link(mbps: int) -> tuple[str, ...]:
    return () if mbps == SLOW else (f"network.links[0].bandwidth={mbps} Mbit/s",)


def calibrated(job: Job) -> Job:
    """A run with Jetson AGX Orin that read weights as fast as others measured, not as the data sheet says."""
    return job._replace(settings=(*job.settings, *CALIBRATED))


def jobs() -> list[Job]:
    shown = (*POLICIES_SHOWN, POSSIBLE)
    many = [throughput(m, p, pipeline) for m in reversed(MODELS) for p in shown for pipeline in PIPELINES]
    fast = [throughput(m, p, mbps=FAST) for m in MODELS for p in shown]
    one = [latency(m, p, mbps) for m in MODELS for p in (*BASELINES, LATENCY, "lookahead", POSSIBLE) for mbps in MBPS]
    held = [calibrated(latency(m, p, mbps)) for m in MODELS for p in (*BASELINES, LATENCY) for mbps in (SLOW, FAST)]
    return [*many, *fast, *one, *held]


def section(found: Found) -> str:
    one = latency(MODELS[0], LATENCY).scenario()
    many = throughput(MODELS[0], LATENCY).scenario()
    setting = sentence(
        "The paper's testbed of {devices} devices in the simulator: {orins} Jetson AGX Orin, {nxs} Orin NX and an RTX "
        "{gpu} in the cloud, links of {link} and the source's own to the cloud of {slow} to {fast} Mbit/s; {prompt} "
        "tokens in, {new} out, float32. Latency is of one sequence, throughput of {many} at once. The range of "
        "bandwidths is the paper's; which link has which, and the number of sequences, are ours [D].",
        devices=str(len(one.device_names)),
        orins=str(one.devices[0].count),
        nxs=str(one.devices[1].count),
        gpu=str(one.devices[2].profile).removeprefix("rtx-"),
        link=BIT_RATE.format_human(one.network.default.bandwidth),
        slow=str(SLOW),
        fast=str(FAST),
        prompt=str(one.workload.prompts[0].tokens),
        new=str(one.workload.max_tokens),
        many=str(len(many.workload.prompts)),
    )
    parts = [
        "## Devices and layers by dynamic programming: EdgeShard (arXiv 2405.14371)",
        setting,
        claims_table([_latency_claim(found), _throughput_claim(found), _fits(found), _bubbles(found)]),
        _latency_table(found),
        _throughput_table(found),
        _with_calibrated(found),
        _calibrated_table(found),
    ]
    return "\n\n".join(parts)


def best_baseline(found: Found, jobs_: list[Job]) -> tuple[str, Outcome] | None:
    ran = [(job.policy, found[job]) for job in jobs_ if not found[job].problem]
    return min(ran, key=lambda one: one[1].total_s) if ran else None


def _latency_claim(found: Found) -> Claim:
    shown, cuts = [], []
    for model in MODELS:
        for mbps in (SLOW, FAST):
            best = best_baseline(found, [latency(model, name, mbps) for name in BASELINES])
            if best is None:
                continue
            cut = 1.0 - found[latency(model, LATENCY, mbps)].tpot_s / best[1].tpot_s
            cuts.append(cut)
            shown.append(f"{model.upper()} at {mbps} Mbit/s: {change(-cut)} against `{best[0]}`")
    alone = [model for model in MODELS if best_baseline(found, [latency(model, name) for name in BASELINES]) is None]
    most = max(cuts)
    if most > 0.55:
        verdict = (
            "More than claimed where the path to the cloud is slow: the program goes round it by way of another "
            "device, whose link is not"
        )
    elif most >= 0.45:
        verdict = "As claimed"
    else:
        verdict = "Less than claimed"
    none = f"; no baseline holds {listed([model.upper() for model in alone])}" if alone else ""
    near = ""
    if min(cuts) < 0.01:
        near = ". Where the cloud is as near as any other device, source and cloud are all that it takes"
    if min(cuts) < -0.001:
        near += "; of all devices the program, which follows few partial paths, makes a little less than of those two"
    return Claim(
        "up to 50 % less latency than the baselines",
        "P",
        "; ".join(shown),
        latency(MODELS[0], LATENCY).command(),
        sentence(verdict + "{none}" + near + ". Time per token, against the best baseline.", none=none),
    )


def _throughput_claim(found: Found) -> Claim:
    shown, factors = [], []
    for model in MODELS:
        for mbps in (SLOW, FAST):
            best = best_baseline(found, [throughput(model, name, mbps=mbps) for name in BASELINES])
            if best is not None:
                factor = found[throughput(model, THROUGHPUT, mbps=mbps)].throughput / best[1].throughput
                factors.append(factor)
                shown.append(f"{model.upper()} at {mbps} Mbit/s: {times(factor)} of `{best[0]}`")
    verdict = (
        "More than claimed: a pipeline over many devices is set against one or two, sequences are as many as devices, "
        "and in the simulator a stage loses nothing to the runtime"
        if max(factors) > 2.2
        else "About as claimed"
        if max(factors) >= 1.8
        else "Less than claimed"
    )
    return Claim(
        "up to 2 × the throughput of the baselines",
        "P",
        "; ".join(shown),
        throughput(MODELS[0], THROUGHPUT).command(),
        sentence(verdict + ". Against the best baseline, without bubbles."),
    )


def _fits(found: Found) -> Claim:
    holds = {
        model: [name for name in (*BASELINES, LATENCY) if not found[latency(model, name)].problem] for model in MODELS
    }
    largest = MODELS[-1]
    only = holds[largest] == [LATENCY]
    verdict = (
        "As the paper means it: the largest model fits EdgeShard's pipelines only"
        if only
        else "The largest model fits a baseline too"
        if LATENCY in holds[largest]
        else "The largest model does not fit"
    )
    even = [model.upper() for model in MODELS[:-1] if "cloud-edge-even" not in holds[model]]
    detail = (
        "; half of {even} in float32 is more than the cloud's GPU has, so that an even cut cannot hold it"
        if even
        else ""
    )
    return Claim(
        "who fits: models that no device, nor source and cloud together, can hold",
        "P",
        "; ".join(
            f"{model.upper()}: {listed([f'`{n}`' for n in names]) if names else 'none'}"
            for model, names in holds.items()
        ),
        latency(largest, LATENCY).command(),
        sentence(verdict + detail + ".", even=listed(even) if even else ""),
    )


def _bubbles(found: Found) -> Claim:
    gains = {
        model: found[throughput(model, THROUGHPUT)].throughput
        / found[throughput(model, THROUGHPUT, PIPELINES[1])].throughput
        for model in MODELS
    }
    return Claim(
        "a pipeline without bubbles has more throughput than one with them",
        "P",
        "; ".join(f"{model.upper()}: {times(gain)}" for model, gain in gains.items()),
        throughput(MODELS[0], THROUGHPUT, PIPELINES[1]).command(),
        sentence(
            "As claimed, with every model: with bubbles all sequences wait for the slowest of them at every token."
            if min(gains.values()) > 1.0
            else "Not with every model."
        ),
    )


def _with_calibrated(found: Found) -> str:
    """Largest cut of the time per token with calibrated devices."""
    cuts = []
    for model in MODELS:
        for mbps in (SLOW, FAST):
            best = best_baseline(found, [calibrated(latency(model, name, mbps)) for name in BASELINES])
            if best is not None:
                made = found[calibrated(latency(model, LATENCY, mbps))]
                cuts.append((1.0 - made.tpot_s / best[1].tpot_s, f"{model.upper()} at {mbps} Mbit/s"))
    most, where = max(cuts)
    return sentence(
        "How fast EdgeShard's boards read weights is not known here. With the {rate} at which an AGX Orin decodes for "
        "others (`{profile}`, [validation.md](validation.md)) in place of the data sheet's, each of them takes longer, "
        "the cloud's GPU does not, and the largest cut of the time per token becomes {most}, {where}. It is a "
        "sensitivity, not a reproduction: another runtime, in another precision, was measured.",
        rate=BYTE_RATE.format_human(_calibrated_rate()),
        profile=PROFILE,
        most=percent(most),
        where=where,
    )


def _calibrated_rate() -> float:
    return read_profile(ROOT / PROFILE).mem_bandwidth.value


def _calibrated_table(found: Found) -> str:
    rows = [
        [
            model.upper(),
            f"`{name}`",
            *(
                _cell(found[each], duration(found[each].tpot_s))
                for mbps in (SLOW, FAST)
                for each in (latency(model, name, mbps), calibrated(latency(model, name, mbps)))
            ),
        ]
        for model in MODELS
        for name in (*BASELINES, LATENCY)
    ]
    heads = [f">{mbps} Mbit/s, {which}" for mbps in (SLOW, FAST) for which in ("data sheet", "calibrated")]
    return table(("time per token, one sequence", "policy", *heads), rows)


def _cell(outcome: Outcome, shown: str) -> str:
    return "no room" if outcome.problem else shown


def _latency_table(found: Found) -> str:
    rows = []
    for model in MODELS:
        for name in (*BASELINES, LATENCY, "lookahead"):
            cells = [found[latency(model, name, mbps)] for mbps in MBPS]
            rows.append([model.upper(), f"`{name}`", *(_cell(one, duration(one.tpot_s)) for one in cells)])
        bounds = [found[latency(model, POSSIBLE, mbps)] for mbps in MBPS]
        rows.append([model.upper(), "possible: no less than", *(_cell(one, duration(one.tpot_s)) for one in bounds)])
    return table(("time per token, one sequence", "policy", *(f">{mbps} Mbit/s to the cloud" for mbps in MBPS)), rows)


def _throughput_table(found: Found) -> str:
    rows = []
    for model in MODELS:
        for name in POLICIES_SHOWN:
            cells = [found[throughput(model, name, pipeline)] for pipeline in PIPELINES]
            cells.append(found[throughput(model, name, mbps=FAST)])
            used = sum(1 for peak in cells[0].peak_bytes if peak)
            rows.append(
                (
                    model.upper(),
                    f"`{name}`",
                    *(_cell(one, rate(one.throughput)) for one in cells),
                    _cell(cells[0], str(used)),
                )
            )
        bounds = [found[throughput(model, POSSIBLE, pipeline)] for pipeline in PIPELINES]
        bounds.append(found[throughput(model, POSSIBLE, mbps=FAST)])
        shown = (_cell(one, rate(one.throughput)) for one in bounds)
        rows.append((model.upper(), "possible: no more than", *shown, "–"))
    head = (
        *("tokens/s, all sequences", "policy", f">no bubbles, {SLOW} Mbit/s", f">bubbles, {SLOW} Mbit/s"),
        *(f">no bubbles, {FAST} Mbit/s", ">devices"),
    )
    return table(head, rows)
