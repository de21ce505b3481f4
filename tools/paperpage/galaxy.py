"""Galaxy (arXiv 2405.17245): jobs, and what comes of them beside what the paper claims."""

from collections.abc import Callable

from edgeemu.scenario.catalog import device_profile

from .runs import POSSIBLE, Found, Job, Outcome
from .words import Claim, change, claims_table, duration, sentence, table, times

FILE = "galaxy-gpt2-large.yaml"
MBPS = (100, 250, 500, 1000, 2500, 10000)  # of every link
RIVALS = ("single", "layers")  # one device, and whole layers in a chain
WAYS = {
    "galaxy": (),
    "galaxy without tiles": ("sharding.tile_overlap=false",),
    "galaxy with stars": ("sharding.collectives=star",),
}


def job(name: str, mbps: int) -> Job:
    """A policy, or a way of Galaxy's."""
    link = (f"network.default.bandwidth={mbps} Mbit/s",)
    return Job(FILE, "galaxy" if name in WAYS else name, (*link, *WAYS.get(name, ())))


def possible(mbps: int) -> list[Job]:
    """Bounds that no placement can beat, with rings and with stars."""
    return [job(name, mbps)._replace(policy=POSSIBLE) for name in ("galaxy", "galaxy with stars")]


def jobs() -> list[Job]:
    bounds = [bound for mbps in MBPS for bound in possible(mbps)]
    return [*(job(name, mbps) for name in (*WAYS, *RIVALS) for mbps in MBPS), *bounds]


def section(found: Found) -> str:
    one = job("galaxy", MBPS[0]).scenario()
    setting = sentence(
        "{devices} times {device}, one prompt of {prompt} tokens, {model} in float32. Devices, model and length "
        "are ours [D]. In a prompt, rows are divided as well as heads and columns; in decoding there is one row.",
        devices=str(one.devices[0].count),
        device=device_profile(str(one.devices[0].profile)).title,
        prompt=str(one.workload.prompts[0].tokens),
        model=str(one.model.name),
    )
    parts = [
        "## Tensor and sequence parallelism: Galaxy (arXiv 2405.17245)",
        setting,
        claims_table([_prefill(found), _tiles(found), _decode(found)]),
        _table("first token", found, lambda outcome: outcome.ttft_s),
        _table("later tokens", found, lambda outcome: outcome.tpot_s),
    ]
    return "\n\n".join(parts)


def gain(found: Found, mbps: int, *, first: bool) -> float:
    """How many times faster than the better of the rivals."""

    def time_s(name: str) -> float:
        outcome = found[job(name, mbps)]
        return outcome.ttft_s if first else outcome.tpot_s

    return min(map(time_s, RIVALS)) / time_s("galaxy")


def _prefill(found: Found) -> Claim:
    gains = {mbps: gain(found, mbps, first=True) for mbps in MBPS}
    slower = [mbps for mbps, factor in gains.items() if factor < 1.0]
    best = max(gains.values())
    verdict = "More than claimed" if best > 2.6 else "As claimed" if best >= 2.4 else "Less than claimed"
    slow = (
        "; at {slow} Mbit/s and below, joining what devices have computed takes longer than dividing it saves"
        if slower
        else ""
    )
    return Claim(
        "up to 2.5 × less latency than the state of the art, for a prompt",
        "P",
        "; ".join(f"{times(factor)} at {mbps} Mbit/s" for mbps, factor in gains.items()),
        job("galaxy", MBPS[-1]).command(),
        sentence(
            verdict + " at the fastest link, against the better of one device and a chain of whole layers, for which a "
            "single prompt is no faster than one device"
            + slow
            + ". The paper's rivals are other divisions of a layer [N].",
            slow=str(max(slower, default=0)),
        ),
    )


def _tiles(found: Found) -> Claim:
    saved = {
        mbps: found[job("galaxy", mbps)].ttft_s / found[job("galaxy without tiles", mbps)].ttft_s - 1.0 for mbps in MBPS
    }
    return Claim(
        "tiles hide the ring's steps behind products",
        "P",
        "; ".join(f"{change(share)} at {mbps} Mbit/s" for mbps, share in saved.items()),
        job("galaxy without tiles", MBPS[0]).command(),
        sentence(
            "As claimed: time to the first token with tiles against without. They save most where products and "
            "messages take about as long."
            if min(saved.values()) < -0.01
            else "Not seen here."
        ),
    )


def _decode(found: Found) -> Claim:
    gains = {mbps: gain(found, mbps, first=False) for mbps in MBPS}
    return Claim(
        "with one row, in decoding, neither rows nor tiles help",
        "D",
        "; ".join(f"{times(factor)} at {mbps} Mbit/s" for mbps, factor in gains.items()),
        job("galaxy", MBPS[0]).command(),
        sentence(
            "Heads and columns are still divided, and weights are read side by side: that pays where links are quick "
            "beside it, and not where they are slow."
            if max(gains.values()) > 1.0 > min(gains.values())
            else "Heads and columns are still divided, and that pays here with every link."
            if min(gains.values()) >= 1.0
            else "Dividing heads and columns does not pay here with any link."
        ),
    )


def _table(what: str, found: Found, time_s: Callable[[Outcome], float]) -> str:
    rows = []
    for name in (*WAYS, *RIVALS):
        shown = (duration(time_s(found[job(name, mbps)])) for mbps in MBPS)
        rows.append([name if name in WAYS else f"`{name}`", *shown])
    bounds = (duration(min(time_s(found[bound]) for bound in possible(mbps))) for mbps in MBPS)
    rows.append(["possible: no less than", *bounds])
    return table((what, *(f">{mbps} Mbit/s" for mbps in MBPS)), rows)
