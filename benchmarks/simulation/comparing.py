"""A real run and a simulated one of the same calls, side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.arrivals import Arrivals, Call
from benchmarks.simulation.machines import Deployment, Engine, Overheads
from benchmarks.simulation.real import Real
from benchmarks.simulation.report import Waits, report
from benchmarks.simulation.running import Simulation
from scheduler.cost import Sample
from scheduler.keys import LANES

IDLE_CALLS, IDLE_SECONDS, IDLE_LENGTH = 20, 0.15, 16
"""By which the overheads are measured: how many, a call every so many seconds, of so many tokens."""


@dataclass(frozen=True)
class Compared:
    """A figure of a lane, measured and simulated."""

    lane: str
    figure: str
    real: float
    simulated: float

    @property
    def ratio(self) -> float:
        """Simulated by real."""
        return self.simulated / self.real

    def __str__(self) -> str:
        return f"{self.lane:<12}{self.figure:<14}{self.real:10.2f}{self.simulated:12.2f}{self.ratio:8.3f}"


def idle_calls() -> list[Call]:
    """Calls that meet nothing else: they come before the others of a run, and tell what lies around a forward."""
    return [Call(IDLE_SECONDS * number, 0, "", (IDLE_LENGTH,)) for number in range(IDLE_CALLS)]


def after_idle_calls(calls: Iterable[Call]) -> list[Call]:
    """The calls of a run: idle ones, then these."""
    begin = IDLE_SECONDS * IDLE_CALLS
    return [*idle_calls(), *(replace(call, seconds=begin + call.seconds) for call in calls)]


def overheads_of(real: Real) -> Overheads:
    """What an idle call took beside its forward; what is not known of it by default is ascribed to handing it in.

    Args:
        real: a run of calls that begin with `idle_calls`.
    """
    forward = float(np.median([sample.seconds for sample in real.samples[:IDLE_CALLS]]))
    around, known = float(np.median(real.waits[:IDLE_CALLS])) - forward, Overheads()
    return replace(known, api=max(0.0, around - (known.of_an_idle_call - known.api)))


def engine_of(samples: Sequence[Sample], tokens: int, sequences: int) -> Engine:
    """An engine that takes as long as one did whose forwards these were.

    Least squares of the relative errors, so that small batches count as much as large ones; none of the three can be
    negative. What is left is the noise.
    """
    seconds = np.array([sample.seconds for sample in samples])
    features = np.array([[1.0, sample.tokens, sample.squares] for sample in samples])
    chosen = [0, 1, 2]
    while True:
        factors = np.linalg.lstsq(features[:, chosen] / seconds[:, None], np.ones(len(seconds)), rcond=None)[0]
        if (factors >= 0).all():
            break
        del chosen[int(np.argmin(factors * features[:, chosen].mean(axis=0)))]
    found = np.zeros(3)
    found[chosen] = factors
    noise = float(np.log(seconds / (features @ found)).std())
    # The fit leans to the fast ones of each kind: all together must take as long as they did.
    found *= seconds.sum() / ((features @ found).sum() * np.exp(noise**2 / 2))
    fixed, per_token, per_square = found.tolist()
    return Engine(fixed, per_token, per_square, noise, tokens, sequences)


def simulated_of(real: Real, workers: int, tokens: int, sequences: int, seed: int) -> list[Compared]:
    """The figures of a real run beside those of a simulated one of its calls.

    Args:
        real: of `after_idle_calls`, by so many workers that are alike, whose forwards may hold so much.
    """
    arrivals = Arrivals.of(real.calls)
    engine = engine_of(real.samples, tokens, sequences)
    deployment = Deployment([engine] * workers, overheads_of(real))
    outcome = Simulation(deployment, arrivals, seed).run()
    busy = sum(sample.seconds for sample in real.samples) / (workers * real.seconds)
    rows = [Compared("engines", "busy %", busy * 100, report(arrivals, outcome, workers).utilisation * 100)]
    measured, foretold = np.array(real.waits), outcome.answered - arrivals.seconds
    for number in np.unique(arrivals.lanes).tolist():
        for figure, one, other in zip(
            ("tokens/s", "p50 ms", "p90 ms"),
            _figures(arrivals, measured, number),
            _figures(arrivals, foretold, number),
            strict=True,
        ):
            rows.append(Compared(LANES[number], figure, one, other))
    return rows


def _figures(arrivals: Arrivals, waits: NDArray[np.float64], lane: int) -> tuple[float, float, float]:
    """Of a lane: tokens a second until its last answer, and two quantiles of its calls' waits in milliseconds."""
    calls = arrivals.lanes == lane
    tokens = arrivals.tokens[np.repeat(calls, np.diff(arrivals.first))].sum()
    seconds = (arrivals.seconds + waits)[calls].max() - arrivals.seconds[calls].min()
    found = Waits.of(waits[calls])
    return float(tokens / seconds), found.p50, found.p90
