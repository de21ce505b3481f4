"""Valid rows are what a table of all layers and sequences says, whatever is cut and filled."""

from hypothesis import given
from hypothesis import strategies as st

from edgeemu.placement.valid_rows import ValidRows

N_LAYERS = 6
KEPT = {0: 9, 3: 4}
CUTS = st.tuples(st.integers(0, N_LAYERS), st.fixed_dictionaries({0: st.integers(0, 9), 3: st.integers(0, 4)}))


@given(st.lists(st.tuples(CUTS, st.integers(0, 3)), max_size=6))
def test_what_is_cut_and_filled_is_as_in_a_table(changes: list[tuple[tuple[int, dict[int, int]], int]]) -> None:
    valid, table = ValidRows(KEPT), [dict(KEPT) for _ in range(N_LAYERS)]
    for (layers, rows), steps in changes:
        valid.cut(layers, rows)
        for layer in range(layers):
            table[layer] = {sequence: min(end, rows[sequence]) for sequence, end in table[layer].items()}
        for _ in range(steps):
            if not valid.levels:
                break
            end, wanted = valid.levels[0].end, dict(valid.wanted)
            sequence = next(one for one in KEPT if valid.levels[0].rows[one] < wanted[one])
            row = valid.levels[0].rows[sequence] + 1
            valid.fill(sequence, row)
            for layer in range(end):
                table[layer][sequence] = row
        assert [dict(valid.at(layer)) for layer in range(N_LAYERS)] == table
        assert valid.lacking == sum(KEPT[one] - rows[one] for rows in table for one in KEPT)
        ends = [level.end for level in valid.levels]
        assert ends == sorted(set(ends))
        assert all(level.rows != valid.at(level.end) for level in valid.levels)
