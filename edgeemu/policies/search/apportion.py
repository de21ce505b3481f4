"""Apportionment: whole units for devices in proportion to their weights. Two rules, which give different numbers."""


def largest_remainders(weights: list[float], total: int, rooms: list[int]) -> list[int]:
    """Divide `total` by the largest-remainder method (Hamilton), with at most `rooms[i]` units for i.

    Units for which there is no room are divided among the others by the same method. The sum is `total`, or all that
    there is room for. `galaxy` uses it: its paper rounds shares.
    """
    given = [0] * len(weights)
    left = min(total, sum(rooms))
    while left:
        able = [i for i, room in enumerate(rooms) if given[i] < room]
        weight = sum(weights[i] for i in able)
        exact = {i: left * weights[i] / weight for i in able}
        parts = {i: min(int(exact[i]), rooms[i] - given[i]) for i in able}
        if any(int(exact[i]) > parts[i] for i in able):  # someone is full: what is left over is divided again
            parts = {i: part for i, part in parts.items() if int(exact[i]) > part}
        else:
            rest = left - sum(parts.values())
            for i in sorted(able, key=lambda i: parts[i] - exact[i])[:rest]:
                parts[i] += int(given[i] + parts[i] < rooms[i])
        for i, part in parts.items():
            given[i] += part
            left -= part
    return given


def highest_averages(weights: list[float], total: int, rooms: list[int]) -> list[int]:
    """Divide `total` by the highest-averages method (D'Hondt), with at most `rooms[i]` units for i.

    One unit at a time goes to whoever is furthest behind, so that the fullest share, in proportion to its weight, is
    the least. `layers` uses it: the slowest stage of a pipeline counts. There must be room for `total`.
    """
    given = [0] * len(weights)
    for _ in range(total):
        able = [i for i, room in enumerate(rooms) if given[i] < room]
        given[max(able, key=lambda i: weights[i] / (given[i] + 1))] += 1
    return given
