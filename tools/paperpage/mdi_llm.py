"""MDI-LLM (arXiv 2505.18164): jobs, and what comes of them beside what the paper claims."""

from edgeemu.scenario.catalog import device_profile

from .runs import POSSIBLE, Found, Job, Outcome
from .words import Claim, change, claims_table, duration, listed, percent, rate, sentence, size, table, times

NODES = (1, 2, 3)
SMALLER, LARGER = "mdi-llm-nanollama.yaml", "mdi-llm-tinyllama.yaml"  # on real kernels, and simulated
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


def jobs() -> list[Job]:
    many = [job(file, nodes) for file in (SMALLER, LARGER) for nodes in NODES]
    one = [alone(file, nodes) for file in (SMALLER, LARGER) for nodes in (NODES[0], NODES[-1])]
    bounds = [possible(file, nodes) for file in (SMALLER, LARGER) for nodes in NODES]
    return [*many, *one, *map(larger, NODES), *bounds]


def section(found: Found) -> str:
    one = job(SMALLER, NODES[-1]).scenario()
    setting = sentence(
        "The paper's testbed: {nodes} times {device}, on gigabit Ethernet, {sequences} sequences at once. NanoLlama "
        "runs on real kernels in virtual time, TinyLlama in the simulator. The paper computes in half precision, we in "
        "float32, so that weights take twice the memory and twice the time to read. Devices have their data sheet's "
        "speed, which a real TX2 with a Python runtime does not reach.",
        nodes=str(NODES[-1]),
        device=device_profile(str(one.devices[0].profile)).title,
        sequences=str(len(one.workload.prompts)),
    )
    parts = [
        "## Recurrent pipelines: MDI-LLM (arXiv 2505.18164)",
        setting,
        claims_table([_throughput(found), _memory(found), _larger(found), _latency(found)]),
        _table(found),
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
    if least >= 0.5 and grows:
        verdict = "Reproduced, with more growth than claimed where there are as many sequences as nodes"
    elif grows:
        verdict = (
            "It grows with the devices; where sequences and nodes are not as many, they crowd on one node while "
            "another waits, and it grows by less than claimed"
        )
    else:
        verdict = "It does not grow with every further device"
    return Claim(
        "token throughput grows with the devices, by 50 % and more",
        "P",
        "; ".join(shown),
        job(SMALLER, NODES[-1]).command(),
        sentence(verdict + "; the least growth over one device is {least}.", least=percent(least)),
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
    verdict = "Reproduced" if refused and runs else "Not shown by this model"
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
