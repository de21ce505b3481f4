"""Words about how long a comparison takes: before the first run, and before each of the others."""

from collections.abc import Callable, Mapping, Sequence

from edgeemu.report.formats import counted, duration_text

STARTING_S = 5.0  # of the processes of a run: weights, connections, warm-up, trial of a dilation
WORTH_SAYING_S = 30.0
HINT = "--simulate computes the latencies in seconds, without devices and text."


class Expectation:
    """Expected times of runs, one after the other, corrected by what those that are done have taken."""

    def __init__(
        self, policies: Sequence[str], repeats: int, wall_s: Mapping[str, float] | None, clock: Callable[[], float]
    ) -> None:
        """`wall_s`: of a run of each policy that finds a placement; None: not known, but all take about as long."""
        self._wall_s, self._clock, self._began_s = wall_s, clock, 0.0
        runs = [policy for policy in policies for _ in range(repeats)]
        every_s = dict.fromkeys(policies, 0.0) if wall_s is None else wall_s
        self._factor = 1.0  # by which the runs that are done have taken longer than expected
        self._takes_s = [every_s[policy] + STARTING_S if policy in every_s else 0.0 for policy in runs]

    def before(self) -> str:
        """Say how long all of it takes, and what takes most of that; empty where that is not worth a word."""
        total_s, runs = sum(self._takes_s), sum(takes_s > 0 for takes_s in self._takes_s)
        words = f"{counted(runs, 'run')} on device processes"
        if self._wall_s is None:
            return f"{words}, as fast as this host computes. {HINT}"
        if total_s < WORTH_SAYING_S:
            return ""
        name, longest_s = max(self._wall_s.items(), key=lambda item: item[1])
        most = f", of which {name} alone {duration_text(longest_s)} a run" if longest_s > 2 * total_s / runs else ""
        return f"{words}: about {duration_text(total_s)}, or more if this host needs a dilation above 1{most}. {HINT}"

    def left(self, done: int) -> str:
        """Say how long the other runs take when so many are done; empty where that is not worth a word."""
        now_s = self._clock()
        if done == 0:
            self._began_s = now_s
            return ""
        expected_s = sum(self._takes_s[:done])
        self._factor = (now_s - self._began_s) / expected_s if expected_s else 0.0
        left_s = sum(self._takes_s[done:]) * self._factor
        return f"about {duration_text(left_s)} left" if left_s >= WORTH_SAYING_S else ""

    def later_s(self, done: int) -> float | None:
        """Seconds that the runs after the next one take when so many are done; None: nobody knows before the first."""
        return None if self._wall_s is None and not done else sum(self._takes_s[done + 1 :]) * self._factor
