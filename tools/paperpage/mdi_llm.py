"""MDI-LLM (arXiv 2505.18164): jobs, and what comes of them beside what the paper claims."""

import csv
from functools import cache

from edgeemu.scenario.catalog import device_profile

from .runs import POSSIBLE, ROOT, Found, Job, Outcome
from .words import Claim, change, claims_table, duration, listed, percent, rate, sentence, size, table, times

NODES = (1, 2, 3)
SMALLER, LARGER = "mdi-llm-nanollama.yaml", "mdi-llm-tinyllama.yaml"  # on real kernels, and simulated
PROFILE = "boards/jetson-tx2.mdi-llm.yaml"  # fitted on one and two devices (docs/validation.md, V8)
NEAR = 0.1  # error of a time up to which it counts as explained
TOO_LARGE = "llama-3.2-3b"  # for one device


def job(file: str, nodes: int, *settings: str) -> Job:
    return Job(file, "mdi", (f"devices[0].count={nodes}", *settings), real=file == SMALLER)


def possible(file: str, nodes: int) -> Job:
    """Bound that no placement can beat."""
    return job(file, nodes)._replace(policy=POSSIBLE, real=False)


def alone(file: str, nodes: int) -> Job:
    """One sequence only."""
    prompts = job(file, nodes).scenario().workload.prompts[:1]
    return job(file, nodes, f"workload.prompts=[{{tokens: {prompts[0].tokens}}}]")


def larger(nodes: int) -> Job:
    return job(LARGER, nodes, f"model={TOO_LARGE}")


def calibrated(nodes: int) -> Job:
    """Run of the smaller model on calibrated devices, a sequence for each, under the software of the authors."""
    prompts = f"workload.prompts=[{', '.join(nodes * ['{tokens: 32}'])}]"
    settings = ("engine=mdi-llm", f"devices[0].profile=../../{PROFILE}", prompts, f"workload.concurrency={nodes}")
    return job(SMALLER, nodes, *settings)._replace(real=False)


@cache
def measured() -> dict[int, float]:
    """Tokens per second of the smaller model by number of devices, from the authors' own plots."""
    with (ROOT / "tests" / "validation" / "measured.csv").open(encoding="utf-8") as file:
        return {int(row["nodes"]): float(row["value"]) for row in csv.DictReader(file) if row["set"] == "V8"}


def jobs() -> list[Job]:
    many = [job(file, nodes) for file in (SMALLER, LARGER) for nodes in NODES]
    one = [alone(file, nodes) for file in (SMALLER, LARGER) for nodes in (NODES[0], NODES[-1])]
    bounds = [possible(file, nodes) for file in (SMALLER, LARGER) for nodes in NODES]
    return [*many, *one, *map(larger, NODES), *map(calibrated, NODES), *bounds]


def section(found: Found) -> str:
    one = job(SMALLER, NODES[-1]).scenario()
    setting = sentence(
        "The paper's testbed: {nodes} times {device}, on gigabit Ethernet, {sequences} sequences at once. NanoLlama "
        "runs on real kernels in virtual time, TinyLlama in the simulator. The paper computes in half precision, we in "
        "float32, so that weights take twice the memory and twice the time to read. Devices have their data sheet's "
        "speed, which a real TX2 with a Python runtime does not reach; the last table has them calibrated, under the "
        "authors' software.",
        nodes=str(NODES[-1]),
        device=device_profile(str(one.devices[0].profile)).title,
        sequences=str(len(one.workload.prompts)),
    )
    parts = [
        "## Recurrent pipelines: MDI-LLM (arXiv 2505.18164)",
        setting,
        claims_table([_throughput(found), _memory(found), _larger(found), _latency(found)]),
        _table(found),
        _against_the_plots(found),
        _calibrated_table(found),
    ]
    return "\n\n".join(parts)


def title(file: str) -> str:
    return str(job(file, NODES[0]).scenario().model.name)


def growth(found: Found, file: str, nodes: int) -> float:
    return found[job(file, nodes)].throughput / found[job(file, NODES[0])].throughput - 1.0


def _throughput(found: Found) -> Claim:
    by_model = {title(file): {nodes: growth(found, file, nodes) for nodes in NODES[1:]} for file in (SMALLER, LARGER)}
    shown = [
        f"{name}: {', '.join(f'{change(share)} with {nodes}' for nodes, share in grown.items())}"
        for name, grown in by_model.items()
    ]
    every = [share for grown in by_model.values() for share in grown.values()]
    least = min(every)
    grows = all(grown[NODES[-1]] > grown[NODES[1]] > 0 for grown in by_model.values())
    plots = [measured()[nodes] / measured()[NODES[0]] - 1.0 for nodes in NODES[1:]]
    theirs = " and ".join(map(change, plots))
    if grows and growth(found, SMALLER, NODES[-1]) > 1.2 * plots[-1]:
        verdict = (
            "Not reproduced: with the data sheet's figures it grows more than on the authors' boards, whose own plots "
            "have {theirs} for the smaller model. See the last table"
        )
    elif grows:
        verdict = "It grows with the devices, about as in the authors' own plots ({theirs} for the smaller model)"
    else:
        verdict = "It does not grow with every further device, as it does in the authors' own plots ({theirs})"
    return Claim(
        "token throughput grows with the devices, by 50 % and more",
        "P",
        "; ".join(shown),
        job(SMALLER, NODES[-1]).command(),
        sentence(verdict + "; the least growth over one device is {least}.", least=percent(least), theirs=theirs),
    )


def _memory(found: Found) -> Claim:
    def fall(file: str, nodes: int) -> float:
        return 1.0 - fullest(found[job(file, nodes)]) / fullest(found[job(file, NODES[0])])

    falls = [fall(file, nodes) for file in (SMALLER, LARGER) for nodes in NODES[1:]]
    verdict = (
        "More than claimed: what is counted here is the model and its caches, and each device has its share of them; a "
        "real process has a runtime beside them, which does not shrink"
        if min(falls) > 0.3
        else "About as claimed"
    )
    return Claim(
        "memory of each device falls by 30 %",
        "P",
        "; ".join(
            f"{title(file)}: {', '.join(f'{change(-fall(file, n))} with {n}' for n in NODES[1:])}"
            for file in (SMALLER, LARGER)
        ),
        job(LARGER, NODES[-1]).command(),
        sentence(verdict + "."),
    )


def fullest(outcome: Outcome) -> int:
    return max(outcome.peak_bytes)


def _larger(found: Found) -> Claim:
    refused = [nodes for nodes in NODES if found[larger(nodes)].problem]
    runs = [nodes for nodes in NODES if not found[larger(nodes)].problem]
    text = "runs on none" if not runs else f"no room on {listed([str(n) for n in refused])} device, " if refused else ""
    if runs:
        last = found[larger(runs[-1])]
        text += (
            f"{rate(last.throughput)} tokens/s on {runs[-1]}, with {size(fullest(last))} on the fullest of "
            f"{size(max(last.cap_bytes))}"
        )
    verdict = "As claimed" if refused and runs else "Not shown by this model"
    return Claim(
        "models run that are larger than one device",
        "P",
        f"{TOO_LARGE}: {text}",
        larger(NODES[-1]).command(),
        sentence(verdict + "; the model is our choice, as both of the paper's fit one device in float32 too."),
    )


def _latency(found: Found) -> Claim:
    def slower(file: str) -> float:
        return found[alone(file, NODES[-1])].tpot_s / found[alone(file, NODES[0])].tpot_s - 1.0

    shares = {title(file): slower(file) for file in (SMALLER, LARGER)}
    worse = all(share > 0 for share in shares.values())
    verdict = (
        "With one sequence the ring only adds hops: layers are read one after the other wherever they are, and all "
        "nodes but one are idle"
        if worse
        else "One sequence is not slower on several nodes"
    )
    idle = [share for file in (SMALLER, LARGER) for share in found[alone(file, NODES[-1])].idle]
    return Claim(
        "one sequence alone gains nothing: pipelines raise throughput, not latency",
        "D",
        "; ".join(f"{name}: {change(share, 1)} time per token with {NODES[-1]}" for name, share in shares.items()),
        alone(SMALLER, NODES[-1]).command(),
        sentence(
            verdict + "; each is idle for {least} to {most} of the time.",
            least=percent(min(idle)),
            most=percent(max(idle)),
        ),
    )


def _against_the_plots(found: Found) -> str:
    """Time per token of calibrated devices, and how far that is from the authors' plots."""
    off = {nodes: measured()[nodes] / found[calibrated(nodes)].throughput - 1.0 for nodes in NODES}
    fitted, predicted = [off[nodes] for nodes in NODES[:-1]], off[NODES[-1]]
    near = (
        "So the growth is explained: Python is busy for every message that it sends and receives, which a pipeline "
        "cannot hide, and the more devices, the less there is to compute beside it"
        if abs(predicted) <= NEAR
        else "So the growth is not explained by these figures"
    )
    return sentence(
        "Calibrated on the authors' plots of one and two devices ([validation.md](validation.md), `{profile}`), three "
        "take {off} time per token than in the plots; the two that were fitted are {fitted} off. " + near + ".",
        profile=PROFILE,
        off=f"{percent(abs(predicted), 1)} {'more' if predicted > 0 else 'less'}",
        fitted=" and ".join(change(each, 1) for each in fitted),
    )


def _calibrated_table(found: Found) -> str:
    rows = []
    for nodes in NODES:
        sheet, ours, theirs = found[job(SMALLER, nodes)], found[calibrated(nodes)], measured()
        shares = [
            one / first
            for one, first in (
                (theirs[nodes], theirs[NODES[0]]),
                (ours.throughput, found[calibrated(NODES[0])].throughput),
                (sheet.throughput, found[job(SMALLER, NODES[0])].throughput),
            )
        ]
        rows.append(
            [
                str(nodes),
                *(rate(each) for each in (theirs[nodes], ours.throughput, sheet.throughput)),
                *(change(share - 1.0) for share in shares),
            ]
        )
    heads = (f"{title(SMALLER)}: devices", ">tokens/s in the authors' plots", ">calibrated", ">data sheet, float32")
    return table((*heads, ">growth in the plots", ">calibrated", ">data sheet"), rows)


def _table(found: Found) -> str:
    rows = []
    for file in (SMALLER, LARGER):
        for nodes in NODES:
            one = found[job(file, nodes)]
            share = one.throughput / found[job(file, NODES[0])].throughput
            memory, idle = " / ".join(map(size, one.peak_bytes)), " / ".join(map(percent, one.idle))
            most = rate(found[possible(file, nodes)].throughput)
            rows.append(
                [title(file), str(nodes), rate(one.throughput), most, times(share), duration(one.tpot_s), idle, memory]
            )
    return table(
        (
            "model",
            ">devices",
            ">tokens/s",
            ">possible: no more than",
            ">of one device's",
            ">per token of each sequence",
            "idle",
            "memory of each device",
        ),
        rows,
    )
