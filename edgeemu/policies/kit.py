"""Checks of any policy's answers: complete, within memory, reproducible, on time. For tests of a policy of one's own.

    from edgeemu.policies.api import policy
    from edgeemu.policies.kit import faults

    assert faults(policy("my_policy.py:MyPolicy"), time.perf_counter) == []

Every case is a short run on a small cluster: a first placement, then decisions while devices slow down, lose memory and
the cache grows. Imports only `edgeemu.policies.api`; reads no clock but the one that it is given.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from edgeemu.policies.api import (
    EMBED,
    LM_HEAD,
    Block,
    ClusterView,
    Compute,
    DeviceView,
    EdgeemuError,
    InfeasibleError,
    LinkMatrix,
    MemoryPage,
    ModelShape,
    NoBetterPlacement,
    PhysicalCosts,
    Placement,
    Policy,
    WorkloadView,
    draw_lognormal,
    head,
    layer_blocks,
    proj,
    uniform,
)

LIMIT_S = 0.1  # for a decision on these small clusters
PROMPT_TOKENS, TOTAL_TOKENS = 16, 48


@dataclass(frozen=True, slots=True)
class Case:
    """The views of a short run, one for each decision. `feasible`: some placement fits throughout."""

    name: str
    views: tuple[ClusterView, ...]
    feasible: bool = True


def faults(
    decide: Policy, clock: Callable[[], float], limit_s: float = LIMIT_S, cases: list[Case] | None = None
) -> list[str]:
    """Check a policy and describe every fault, with its case and decision; an empty list is a pass.

    A policy may raise `InfeasibleError` at its first decision of a case, if no placement fits, and `NoBetterPlacement`
    at later ones. `cases`: those of `built_in_cases` by default.
    """
    return [fault for case in cases or built_in_cases() for fault in _faults_in(case, decide, clock, limit_s)]


def _faults_in(case: Case, decide: Policy, clock: Callable[[], float], limit_s: float) -> Iterator[str]:
    current: Placement | None = None
    for number, view in enumerate(case.views):
        where = f"{case.name}, decision {number}"
        before = None if current is None else dict(current.owner)
        began_s = clock()
        found = _answer(decide, view, current)
        took_s = clock() - began_s
        if took_s > limit_s:
            yield f"{where}: took {1e3 * took_s:.1f} ms, {1e3 * limit_s:g} ms are allowed"
        if current is not None and current.owner != before:
            yield f"{where}: changed the current placement that it was given"
            return
        if _differs(found, _answer(decide, replace(view), current)):
            yield f"{where}: called again with the same view, it gave another answer"
        if isinstance(found, Exception):
            allowed = InfeasibleError if current is None else NoBetterPlacement
            if not isinstance(found, allowed):
                yield f"{where}: raised {type(found).__name__}: {found}"
                return
            if current is None:
                if case.feasible:
                    yield f"{where}: found no placement, and there is one"
                return
            continue
        problem = _problem(found, view)
        if problem:
            yield f"{where}: {problem}"
            return
        assert isinstance(found, Placement)
        current = found


def _answer(decide: Policy, view: ClusterView, current: Placement | None) -> object:
    """Call a policy: what it returns, or the exception that it raises."""
    try:
        return decide(view, current)
    except Exception as error:  # noqa: BLE001  # whatever a user's policy raises is a finding
        return error


def _differs(one: object, other: object) -> bool:
    if isinstance(one, Exception) and isinstance(other, Exception):
        return type(one) is not type(other)
    return one != other


def _problem(found: object, view: ClusterView) -> str:
    if not isinstance(found, Placement):
        return f"returned a {type(found).__name__}, not a Placement"
    try:
        found.check(view.costs.shape, view.n_devices)
    except EdgeemuError as error:
        return str(error)
    return "" if view.holds(found) else "the placement does not fit the devices' memory"


def built_in_cases() -> list[Case]:
    """Clusters of one to five devices, with models of one layer and of several."""
    deep = _shape(n_layers=6, n_heads=4, n_kv_heads=2, tied=True)
    flat = _shape(n_layers=1, n_heads=8, n_kv_heads=8, tied=False)
    cases = [
        Case("one device", _run(flat, 1, 1.5, seed=1)),
        Case("roomy, one layer", _run(flat, 5, 2.0, seed=2)),
        Case("roomy, many layers", _run(deep, 5, 2.0, seed=3)),
        Case("tight, one layer", _run(flat, 4, 0.6, seed=4)),
        Case("tight, many layers", _run(deep, 5, 0.4, seed=5)),
        Case("slow links", _run(deep, 4, 0.6, seed=6, delay_s=0.02)),
        Case("weights on flash", _run(deep, 4, 0.6, seed=7, weights_on_flash=True)),
        Case("too small", _run(deep, 3, 0.05, seed=8), feasible=False),
    ]
    roomy = _run(deep, 4, 0.8, seed=9)
    lost = replace(roomy[1], devices=(replace(roomy[1].devices[0], memory_bytes=0), *roomy[1].devices[1:]))
    return [*cases, Case("a device loses its memory", (roomy[0], lost, lost))]


def _shape(n_layers: int, n_heads: int, n_kv_heads: int, *, tied: bool) -> ModelShape:
    return ModelShape("kit", n_layers, 64, n_heads, n_kv_heads, 64 // n_heads, 128, 256, 128, tied_embeddings=tied)


def _run(
    shape: ModelShape, n_devices: int, share: float, *, seed: int, delay_s: float = 1e-4, weights_on_flash: bool = False
) -> tuple[ClusterView, ...]:
    """Four decisions. Each device has room for `share` of the model, and is slower or faster from one to the next."""

    def sampled(low: float, high: float, *names: str) -> float:
        return draw_lognormal(uniform(seed, *names), low, high)

    roomy = tuple(DeviceView(f"d{i}", Compute(1e8, 1e8, 1e-5), 2**30) for i in range(n_devices))
    links = LinkMatrix.of_pairs(
        n_devices, lambda a, b: sampled(1e7, 1e9, "link", str(min(a, b)), str(max(a, b))), lambda *_: delay_s
    )
    workload = WorkloadView(PROMPT_TOKENS, TOTAL_TOKENS, interval_tokens=4)
    view = ClusterView(PhysicalCosts(shape), roomy, links, workload, weights_on_flash=weights_on_flash)
    need = _need_bytes(view, share)
    views = []
    for step, slowest in enumerate((1.0, 0.9, 0.2, 0.8)):
        devices = tuple(
            DeviceView(
                f"d{i}",
                Compute(sampled(1e7, 1e9, "flops", str(i)) * (slowest if i == step % n_devices else 1.0), 1e9, 1e-5),
                int(need * sampled(0.9, 1.1, "memory", str(i))),
            )
            for i in range(n_devices)
        )
        length = PROMPT_TOKENS + 4 * step if step else 0
        views.append(replace(view, devices=devices, workload=replace(workload, length=length)))
    return tuple(views)


def _need_bytes(view: ClusterView, share: float) -> float:
    """Memory of a device for `share` of a model: per layer its blocks, and both ends once more."""
    shape = view.costs.shape
    layer, embed = _page(view, LM_HEAD, *layer_blocks(shape, 0)), _page(view, EMBED)
    heads = _page(view, *(head(0, group) for group in range(shape.n_groups)))
    layer_bytes = layer.weights_bytes + layer.cache_bytes + embed.weights_bytes
    proj_messages_bytes = _page(view, proj(0)).messages_bytes - heads.messages_bytes
    return share * (shape.n_layers * layer_bytes) + heads.workspace_bytes + proj_messages_bytes


def _page(view: ClusterView, *blocks: Block) -> MemoryPage:
    usage = view.empty_usage()
    for block in blocks:
        usage.add(block)
    return usage.page()
