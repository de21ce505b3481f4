"""A cluster at its best: nothing in it is ever slower than in the cluster that it is made from."""

from edgeemu.cluster.at_best import at_best, least, most
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.variation import Constant, LeftByLoad, Product, Repeated, Scaled, Trace, Uniform, Walk
from edgeemu.scenario.load import parse_scenario

TRACE = Trace((0.0, 1.0, 2.5), (0.4, 0.9, 0.1))
VARIATIONS = (
    Constant(0.3),
    TRACE,
    Repeated(TRACE, 3.0),
    Uniform(0.2, 0.7, 0.5, 3),
    Walk(0.5, 0.3, 0.1, 0.9, 0.5, 2.0, 4),
    LeftByLoad(Uniform(0.2, 1.5, 0.5, 3)),
    Product((TRACE, Uniform(0.2, 0.7, 0.5, 3))),
    Scaled(TRACE, (1.0, 2.0), (2.0, 0.5)),
)
SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 9, max_context: 99}
devices:
  - {name: a, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB, load: 50 %}
  - {name: b, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
  - {name: c, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 10 ms, jitter: 4 ms, loss: 1 %}
events:
  - {at_token: 1, device: b, speed: 60 %}
  - {at_token: 2, device: c, speed: 30 %}
  - {at_token: 3, link: [a, b], delay: 20 ms, bandwidth: 40 Mbit/s}
  - {at: 1 s, link: [b, c], delay: 5 ms}
workload: {prompts: [{tokens: 4}], max_tokens: 9}
"""


def test_no_value_is_outside_the_range() -> None:
    for variation in VARIATIONS:
        values = [variation.piece(0.1 * step)[0] for step in range(200)]
        assert least(variation) <= min(values) <= max(values) <= most(variation), variation
    assert least(None) == most(None) == 1.0


def test_events_loads_jitter_and_loss_are_gone_and_the_best_of_each_is_left() -> None:
    best = at_best(draw(parse_scenario(SCENARIO)))
    assert [device.compute.flops_per_s for device in best.devices if device.compute] == [5e9, 10e9, 10e9]
    assert not best.events
    assert not best.links_vary
    ab, bc = best.path(0, 1), best.path(1, 2)
    assert (ab.bandwidth_bps, ab.delay_s, ab.jitter_s, ab.loss) == (40e6, 10e-3 - 4e-3, 0.0, 0.0)
    assert (bc.bandwidth_bps, bc.delay_s) == (10e6, 5e-3 - 4e-3)
