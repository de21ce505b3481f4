"""Arguments of machine code that looks at placements: tables as flat arrays, batches, and places to write in."""

from typing import NamedTuple

from edgeemu_kernels.arrays import Flags, Floats, Ints


class StepTables(NamedTuple):
    """Times of a decode step of each sequence, as `view.share_times` has them, of n devices."""

    n: int
    n_layers: int
    row: int  # length of a row of `heads_s` and `columns_s`: all groups and one more
    units_row: int  # of `units_s`
    star: bool
    sequences: int  # that run at the same time
    hidden_bits: float
    partial_bits: float
    token_bits: float
    s_per_bit: Floats  # [n, n] with what both ends take
    delay_s: Floats  # [n, n] likewise
    embed_s: Floats  # [n]
    proj_s: Floats  # [n]
    ffn_s: Floats  # [n]
    lm_head_s: Floats  # [n]
    heads_s: Floats  # [n, row]
    columns_s: Floats  # [n, row]
    units_s: Floats  # [n, units_row]
    sums_s: Floats  # [n, n + 2]
    attention_bits: Floats  # [row]
    hop_s: Floats  # [n, n] of a vector x
    sum_hop_s: Floats  # [n, n] of a partial sum
    quickest_s: Floats  # [n] of its hops to any other device
    least_sums_s: Floats  # [n + 2] on the quickest device
    busy: Ints  # [1] 1 if messages keep processors busy
    message_s: Floats  # [n] that a message keeps its sender and its receiver busy
    byte_s: Floats  # [n] the same for each byte
    wire_s_per_bit: Floats  # [n, n] of links alone
    wire_delay_s: Floats  # [n, n]


class MemoryTables(NamedTuple):
    """Bytes, as `view.share_memory` has them, on any n devices."""

    n: int
    row: int
    n_units: int  # of a feed-forward block
    group: int
    norm: int
    embed: int
    lm_head: int
    shared: int
    proj: int
    ffn: int
    column: int
    columns_bias: int
    unit: int
    units_bias: int
    embed_workspace: int
    proj_workspace: int
    ffn_workspace: int
    lm_head_workspace: int
    proj_messages: int
    once: int
    head_workspace: Ints  # [row]
    columns_workspace: Ints  # [row]
    units_workspace: Ints  # [units_row]
    collective: Ints  # [n + 1, row]


class MoveSizes(NamedTuple):
    """Bytes of blocks and shards that move between n devices."""

    n: int
    n_groups: int
    on_flash: bool
    flash_bytes_per_s: float
    cache: Floats  # [1] bytes of a group's cache
    head: float  # bytes of weights, from here on
    proj: float
    ffn: float
    embed: float
    lm_head: float
    table: float  # that the ends share
    first_column: float  # with the bias
    column: float
    first_unit: float
    unit: float


class WayTables(NamedTuple):
    """Prices of moves, as `view.share_moves_time` has them, where they begin, and the room that there is.

    They begin as `MoveSizes` do.
    """

    n: int
    n_groups: int
    on_flash: bool
    flash_bytes_per_s: float
    cache: Floats
    head: float
    proj: float
    ffn: float
    embed: float
    lm_head: float
    table: float
    first_column: float
    column: float
    first_unit: float
    unit: float
    begin: Ints  # [3] 1 if every device has memory for everything, and the devices of both ends
    old_heads: Ints  # [n_runs, n]
    old_proj: Ints  # [n_runs]
    old_units: Ints  # [n_runs, n]
    s_per_bit: Floats  # [n, n]
    handled_s_per_bit: Floats  # [n]
    capacity: Ints  # [n] bytes


class Batch(NamedTuple):
    """Placements, with one layer for each run of layers alike."""

    k: int
    n_runs: int
    n: int
    embed: Ints  # [k]
    lm_head: Ints  # [k]
    heads: Ints  # [k, n_runs, n]
    proj: Ints  # [k, n_runs]
    units: Ints  # [k, n_runs, n]
    lengths: Ints  # [n_runs] layers


class Scratch(NamedTuple):
    """Places to write in, for one placement on n devices with n_layers."""

    run: Ints  # [n_layers] the run of each layer
    needs: Flags  # [4, n_layers, n] who needs x: for the attention, as sums after it; for the rest likewise
    need: Flags  # [n]
    ring: Flags  # [n]
    has: Flags  # [n] who has x
    x_s: Floats  # [n] since when
    free_s: Floats  # [n, n] since when pipes are free
    done_s: Floats  # [n]
    joined_s: Floats  # [n]
    had: Flags  # [n] as `has` after the layer before
    before_x_s: Floats  # [n]
    before_free_s: Floats  # [n, n]
    longest: Ints  # [3] way that took longest: over which device with heads, by which with units, and 1 if the partial
    # result of these waits for that of heads
    group_weights: Floats  # [n, row] bytes that so many groups bring to a device, …
    group_caches: Floats  # [n, row]
    group_lost: Floats  # [n, row] … less those that they take
    unit_weights: Floats  # [n, units_row] the same of units
    unit_lost: Floats  # [n, units_row]
    weights: Floats  # [n] bytes that arrive
    caches: Floats  # [n]
    lost: Floats  # [n] bytes that come, less those that go
    floors: Floats  # [9, n] of shifts from each device, by rows as `share_floors` names them
    sent: Ints  # [n] messages that each device has sent in an exchange
    x_taken_s: Floats  # [n] that it has taken each device to take x in
    arrived_s: Floats  # [n + 1] of messages that a device takes in, in the order of their arrival
    taken_s: Floats  # [n + 1] what each takes
    busy_s: Floats  # [n] for which a step keeps each device busy
    link_bits: Floats  # [n, n] that it sends
    link: Ints  # [2] ends of the link that carries most
    busiest: Ints  # [4] the device that was last found to be busiest, and those that are of the placement in force
