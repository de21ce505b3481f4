"""Apportionment of whole units to devices in proportion to their weights."""


def proportional(weights: list[float], total: int, rooms: list[int]) -> list[int]:
    """Whole numbers as near to the proportions of `weights` as largest remainders make them, none above its room.

    What a full one cannot take goes to the others by the same rule. The sum is `total`, or all there is room for.
    """
    given = [0] * len(weights)
    left = min(total, sum(rooms))
    while left:
        able = [i for i, room in enumerate(rooms) if given[i] < room]
        weight = sum(weights[i] for i in able)
        exact = {i: left * weights[i] / weight for i in able}
        parts = {i: min(int(exact[i]), rooms[i] - given[i]) for i in able}
        if any(int(exact[i]) > parts[i] for i in able):  # someone is full: his rest is divided anew
            parts = {i: part for i, part in parts.items() if int(exact[i]) > part}
        else:
            rest = left - sum(parts.values())
            for i in sorted(able, key=lambda i: parts[i] - exact[i])[:rest]:
                parts[i] += int(given[i] + parts[i] < rooms[i])
        for i, part in parts.items():
            given[i] += part
            left -= part
    return given


def shares(weights: list[float], rooms: list[int], total: int) -> list[int]:
    """Whole numbers with sum `total`, none above its room, as near to the proportions of `weights` as that allows.

    One unit at a time to whoever is furthest behind (the D'Hondt method), which respects the rooms as it goes.
    """
    given = [0] * len(weights)
    for _ in range(total):
        open_to = [i for i, room in enumerate(rooms) if given[i] < room]
        given[max(open_to, key=lambda i: weights[i] / (given[i] + 1))] += 1
    return given
