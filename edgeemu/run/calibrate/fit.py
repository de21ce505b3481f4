"""Fit of a board's figures to measurements by least squares, and which of them the measurements can tell apart.

A figure enters time either as it is (an overhead) or inverted (a rate); the unknowns are shares of time, so that time
is nearly linear in them. Residuals are relative to the measured times. Knows predictions; no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeemu.cluster.keyed_random import FloatArray
from edgeemu.errors import RequestError
from edgeemu.run.calibrate.measurement import Measurement
from edgeemu.run.calibrate.predictor import UNBOUND_FLOPS, Figures, Predicted, Predictor, first_bandwidth
from edgeemu.scenario.catalog import model_entry
from edgeemu.scenario.catalog.engines import EngineEntry

LEAST_ANGLE = 0.03  # sine of the angle between a figure's effect and those of others, below which it is not told apart
_LEAST_RATE = 1e-3  # of a rate's unknown: at most a thousand times the first guess
_RATES = ("mem_bandwidth", "gflops")
_LEAST_X = 1e-4  # an overhead below it is none: some hundred of them are 0.003 % of a token
_NO_EFFECT = 1e-7  # relative change of all predicted times together


class Unknown(NamedTuple):
    """A figure to be fitted: value = scale / x where it is a rate, else scale × x."""

    field: str  # a key of devices in a scenario
    scale: float
    is_rate: bool

    def value(self, x: float) -> float:
        return self.scale / x if self.is_rate else self.scale * x


ADVICE = {
    "mem_bandwidth": "tokens per second of any model on one board",
    "gflops": "the time of a prompt of a few hundred tokens (prefill; llama-bench calls it pp)",
    "overhead": "a second model of another size on one board, or compute_ms on one and two boards",
    "remote_overhead": "the same model on one board and on two, with the link between them",
    "message_latency": "the same model on one board and on two, with the link between them",
    "message_overhead": "the same model on one board and on two, with the link between them",
}


@dataclass(frozen=True)
class Calibration:
    """Fitted figures, how sure they are, why others are not fitted, and every measurement with its prediction."""

    engine: str
    figures: Mapping[str, float]  # by key of a device: those that were fitted
    standard_errors: Mapping[str, float]  # relative; none where there are as many figures as numbers measured
    is_exact: bool  # whether there are as many figures as numbers measured, which leaves no error to see
    refused: Mapping[str, str]  # by key: why the measurements say nothing of it
    rows: tuple[tuple[Measurement, Predicted], ...]

    def errors(self, *, fitted: bool) -> list[float]:
        """Relative errors of the predicted times, of rows that were fitted or of those that were only predicted."""
        return [made.taken_s / row.taken_s - 1 for row, made in self.rows if row.fitted == fitted]


def calibrate(engine: EngineEntry, measured: Sequence[Measurement]) -> Calibration:
    """Fit what the measurements tell of the board, and predict every one of them.

    Raises `RequestError` if nothing can be fitted: no measurement of decoding among those to be fitted.
    """
    fitted = [row for row in measured if row.fitted]
    decoding = [row for row in fitted if row.phase == "decode"]
    if not decoding:
        raise RequestError("no row to fit is of decoding (tokens per second after the prompt); bandwidth needs one")
    predictor = Predictor(engine.name)
    wanted = _unknowns(engine, fitted, first_bandwidth(min(decoding, key=lambda row: row.nodes)))
    problem = _Problem(predictor, fitted, wanted)
    chosen, refused = _told_apart(problem)
    chosen, x = _within_bounds(problem, chosen, refused)
    figures = problem.figures(chosen, x)
    if not any(row.phase == "prefill" for row in fitted):
        refused["gflops"] = f"no prompt was measured; {ADVICE['gflops']} would tell it"
    rows = tuple((row, predictor.predict(row, figures)) for row in measured)
    values = {field: figures[field] for field in (wanted[n].field for n in chosen)}
    errors = problem.standard_errors(chosen, x)
    return Calibration(engine.name, values, errors, problem.freedom(chosen, x) <= 0, refused, rows)


def _unknowns(engine: EngineEntry, fitted: Sequence[Measurement], bandwidth: float) -> list[Unknown]:
    """Figures that may be fitted, the surest first, each with a scale near which it lies."""
    unknowns = [Unknown("mem_bandwidth", bandwidth, is_rate=True)]
    prompts = [row for row in fitted if row.phase == "prefill"]
    if prompts:
        unknowns.append(Unknown("gflops", max(map(_prompt_flops, prompts)), is_rate=True))
    scale_s = 0.01 * min(row.taken_s for row in fitted if row.phase == "decode")  # of a few hundred of either a token
    return [*unknowns, *(Unknown(field, 0.1 * scale_s, is_rate=False) for field in engine.fitted)]


def _prompt_flops(row: Measurement) -> float:
    """Arithmetic per second of a prompt on each board, roughly: two operations for each weight and position."""
    shape = model_entry(row.model).model_shape()
    weights = shape.n_layers * (2 * shape.d_model * shape.head_dim * (shape.n_heads + shape.n_kv_heads))
    weights += shape.n_layers * 3 * shape.d_model * shape.d_ff
    return 2 * weights * row.context / row.nodes / row.taken_s


class _Problem:
    """The least-squares problem: residuals of the fitted measurements as a function of some of the unknowns."""

    def __init__(self, predictor: Predictor, fitted: Sequence[Measurement], unknowns: Sequence[Unknown]) -> None:
        self._predictor = predictor
        self._fitted = fitted
        self.unknowns = unknowns

    def figures(self, chosen: Sequence[int], x: Sequence[float] | FloatArray) -> Figures:
        """Figures of the board; those that are not chosen are left to the engine, and arithmetic bounds nothing."""
        values = {
            self.unknowns[n].field: self.unknowns[n].value(float(each)) for n, each in zip(chosen, x, strict=True)
        }
        return {"gflops": UNBOUND_FLOPS} | values

    def residuals(self, chosen: Sequence[int], x: FloatArray) -> FloatArray:
        """Relative errors of the predicted times, and of the part in which the first device computes, where known."""
        figures = self.figures(chosen, x)
        found = []
        for row in self._fitted:
            made = self._predictor.predict(row, figures)
            found.append((made.taken_s - row.taken_s) / row.taken_s)
            if row.compute_s is not None:
                found.append((made.compute_s - row.compute_s) / row.taken_s)
        return np.array(found)

    def jacobian(self, chosen: Sequence[int], x: FloatArray) -> FloatArray:
        """Derivatives of the residuals: [n_residuals, n_chosen]. Time is linear but for queues: a long step is good."""
        at = self.residuals(chosen, x)
        columns = []
        for n in range(len(chosen)):
            step = np.zeros_like(x)
            step[n] = 0.01 * max(float(x[n]), 0.1)
            columns.append((self.residuals(chosen, x + step) - at) / step[n])
        return np.array(columns).T

    def solved(self, chosen: Sequence[int]) -> FloatArray:
        """Least-squares solution within bounds: rates above zero, overheads at least zero."""
        from scipy.optimize import least_squares  # only where something is fitted

        lower = [_LEAST_RATE if self.unknowns[n].is_rate else 0.0 for n in chosen]
        found = least_squares(
            lambda x: self.residuals(chosen, x),
            np.ones(len(chosen)),
            jac=lambda x: self.jacobian(chosen, x),
            bounds=(lower, np.inf),
            xtol=1e-10,
            ftol=1e-12,
        )
        return np.where(found.x < _LEAST_X, lower, found.x)

    @staticmethod
    def _free(x: FloatArray) -> list[int]:
        """Which figures are not zero, at their bound."""
        return [n for n in range(len(x)) if x[n] >= _LEAST_X]

    def freedom(self, chosen: Sequence[int], x: FloatArray) -> int:
        """How many numbers were measured beyond those that figures are fitted to."""
        return len(self.residuals(chosen, x)) - len(self._free(x))

    def standard_errors(self, chosen: Sequence[int], x: FloatArray) -> dict[str, float]:
        """Relative standard errors from the Jacobian, by figure; none of those that are zero, at their bound.

        None at all where there are as many figures as residuals, which leaves no error to see.
        """
        free, freedom = self._free(x), self.freedom(chosen, x)
        if freedom <= 0:
            return {}
        residuals, jacobian = self.residuals(chosen, x), self.jacobian(chosen, x)[:, free]
        variance = float(residuals @ residuals) / freedom
        spread = np.sqrt(np.diag(variance * np.linalg.pinv(jacobian.T @ jacobian)))
        return {self.unknowns[chosen[n]].field: float(each / x[n]) for n, each in zip(free, spread, strict=True)}


def _within_bounds(problem: _Problem, chosen: list[int], refused: dict[str, str]) -> tuple[list[int], FloatArray]:
    """Solve, and leave out overheads with which a rate would not matter at all: no board reads weights in no time."""
    while True:
        x = problem.solved(chosen)
        unbound = [problem.unknowns[n].field for n, each in zip(chosen, x, strict=True) if each <= 1.01 * _LEAST_RATE]
        unbound = [field for field in unbound if field in _RATES]
        overheads = [n for n in chosen if not problem.unknowns[n].is_rate]
        if not unbound or not overheads:
            return chosen, x
        field = problem.unknowns[overheads[-1]].field
        refused[field] = (
            f"with it, the measurements would be explained without {' and '.join(unbound)}; {ADVICE[field]}"
        )
        refused[field] += " would tell it"
        chosen = [n for n in chosen if n != overheads[-1]]


def _told_apart(problem: _Problem) -> tuple[list[int], dict[str, str]]:
    """Unknowns that the measurements tell apart, and why not the others.

    One after the other, the surest first, an unknown is taken if its effect on the times is not a sum of the effects of
    those taken before: the columns of the Jacobian, each scaled to length 1, must not lie in one plane.
    """
    everything = list(range(len(problem.unknowns)))
    jacobian = problem.jacobian(everything, np.ones(len(everything)))
    taken: list[int] = []
    basis: list[FloatArray] = []
    refused: dict[str, str] = {}
    for n in everything:
        field, column = problem.unknowns[n].field, jacobian[:, n]
        length = float(np.linalg.norm(column))
        if length < _NO_EFFECT:
            refused[field] = f"no measurement depends on it; {ADVICE[field]} would tell it"
            continue
        rest = column / length
        for direction in basis:
            rest = rest - (rest @ direction) * direction
        if np.linalg.norm(rest) < LEAST_ANGLE:
            others = " and ".join(problem.unknowns[m].field for m in taken)
            refused[field] = f"the measurements do not tell it from {others}; {ADVICE[field]} would"
            continue
        taken.append(n)
        basis.append(rest / np.linalg.norm(rest))
    return taken, refused
