"""A simulated worker: what was sent to it waits at its engine, which runs one micro-batch after the other."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.clock import Clock
from benchmarks.simulation.machines import Engine
from scheduler.cost import Sample
from workers.engine_thread import LEAD


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch on its way.

    Attributes:
        worker: its number.
        items: their numbers.
        urgent: whether interactive callers wait for it.
    """

    batch_id: str
    worker: int
    items: Sequence[int]
    tokens: int
    squares: int
    urgent: bool


@dataclass(frozen=True, slots=True)
class Forward:
    """A micro-batch that ran: when it began, what it held, how long it took."""

    began: float
    worker: int
    sequences: int
    tokens: int
    seconds: float
    urgent: bool


class EngineLine:
    """The engine of a worker and what waits for it: the urgent first, else in order, as in workers/engine_thread.py."""

    def __init__(
        self, clock: Clock, engine: Engine, chance: np.random.Generator, done: Callable[[Batch, Sample], None]
    ) -> None:
        self.forwards: list[Forward] = []
        self._clock = clock
        self._engine = engine
        self._chance = chance
        self._done = done
        self._line: list[tuple[int, bool, int, Batch]] = []
        self._numbers = itertools.count()
        self._busy = False

    def put(self, batch: Batch) -> None:
        """The worker has claimed a batch."""
        number = next(self._numbers)
        heapq.heappush(self._line, (number - LEAD * batch.urgent, not batch.urgent, number, batch))
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        _, _, _, batch = heapq.heappop(self._line)
        seconds = self._engine.seconds(batch.tokens, batch.squares, self._chance)
        forward = Forward(self._clock.now, batch.worker, len(batch.items), batch.tokens, seconds, batch.urgent)
        self.forwards.append(forward)

        def end() -> None:
            self._busy = False
            self._done(batch, Sample(batch.tokens, batch.squares, seconds))
            if self._line:
                self._begin()

        self._clock.after(seconds, end)
