"""Workers and their slots, as far as a leader keeps count of them by itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from scheduler.cost import Cost, Sample
from scheduler.draft import Budget
from scheduler.queue import Waiting

TYPICAL = (512, 512 * 64)
"""Tokens and squared lengths of the batch by which workers are compared."""

PRESSING_BATCHES = 3
"""An item whose deadline is nearer than so many full batches may miss it if it is left for the next one: the batch that
runs, this one and that one come before its answer."""

LEAD_SECONDS = 0.008
"""A batch that is sent so long before its worker has finished the one before is there in time."""


@dataclass(slots=True)
class Worker:
    """A worker's life signs, how many micro-batches it holds, and what is known of its speed.

    Attributes:
        urgent: those of the batches sent to it that interactive callers wait for.
        expected: the seconds of each batch sent to it, in the order in which they were sent.
        free_at: when it will have finished them, in seconds of the leader's clock.
    """

    worker_id: str
    slots: int
    tokens: int
    sequences: int
    cost: Cost
    held: int = 0
    urgent: set[str] = field(default_factory=set)
    expected: dict[str, float] = field(default_factory=dict)
    free_at: float = -math.inf

    def budget(self, brief_seconds: float | None, now_ms: int) -> Budget:
        """What one forward of it may hold; those of the lanes below the first for no longer than this."""
        pressing_ms = now_ms + round(1000 * PRESSING_BATCHES * self.full_seconds)
        return Budget(self.tokens, self.sequences, brief_seconds, self.cost.seconds, pressing_ms)

    @property
    def full_seconds(self) -> float:
        """What a full batch takes."""
        return self.cost.seconds(self.tokens, self.tokens * TYPICAL[1] // TYPICAL[0])

    def takes(self, batch_id: str, batch: Sequence[Waiting], now: float) -> None:
        """One of its slots is taken by a batch that is on its way to it."""
        self.held += 1
        self.expected[batch_id] = self.cost.seconds(
            sum(waiting.tokens for waiting in batch), sum(waiting.tokens**2 for waiting in batch)
        )
        self.free_at = max(self.free_at, now) + self.expected[batch_id]
        if any(waiting.entry.lane == 0 for waiting in batch):
            self.urgent.add(batch_id)

    def gives_back(self, batch_id: str, now: float) -> None:
        """It has finished a batch, and begins with the next."""
        self.held = max(0, self.held - 1)
        self.urgent.discard(batch_id)
        self.expected.pop(batch_id, None)
        self.free_at = now + sum(self.expected.values())


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one micro-batch.

    Attributes:
        express: it is for what interactive callers wait for, beside what the worker holds already: the worker runs it
            before the batches that wait there.
    """

    worker: Worker
    express: bool = False

    @property
    def slots(self) -> int:
        """The batches that the worker may hold with this one."""
        return self.worker.slots + self.express


class Roster:
    """The workers of a model: who has a free slot, what fits into it, and how fast they are.

    Attributes:
        workers: by their ids.
    """

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}

    def freed(self, worker_id: str, batch_id: str, sample: Sample | None, now: float) -> None:
        """A slot of this worker became free."""
        if (worker := self.workers.get(worker_id)) is None:
            return
        worker.gives_back(batch_id, now)
        if sample:
            worker.cost.learn(sample)

    def promised(self) -> float:
        """Tokens a second of all workers together, as their costs have it; 0 without any."""
        seconds = (worker.cost.seconds(*TYPICAL) for worker in self.workers.values())
        return sum(TYPICAL[0] / each for each in seconds if each > 0)

    def batch_seconds(self) -> float:
        """What a full batch takes on the slowest worker."""
        return max((worker.full_seconds for worker in self.workers.values()), default=0.0)

    def free_slot(self, now: float, *, urgent: bool, late: bool) -> Slot | None:
        """A slot of the worker that holds least, of several the fastest; None while all are full.

        Args:
            urgent: whether interactive callers wait: where a slot holds what others wait for, one more is for them.
            late: a worker's next batch is formed only shortly before it has finished the one before, so that whoever
                comes meanwhile is in it.
        """
        free = [each for each in self.workers.values() if each.held < each.slots and not (late and _early(each, now))]
        if free:
            return Slot(min(free, key=_load))
        full = [each for each in self.workers.values() if urgent and each.held == each.slots > len(each.urgent)]
        return Slot(min(full, key=_load), express=True) if full else None

    def opens_in(self, now: float) -> float | None:
        """In how many seconds a late slot will be free that is not free yet; None where only a batch's end helps."""
        waits = [each.free_at - LEAD_SECONDS - now for each in self.workers.values() if 0 < each.held < each.slots]
        return min((each for each in waits if each > 0), default=None)


def _early(worker: Worker, now: float) -> bool:
    """Whether it has enough to do for now."""
    return worker.held > 0 and now < worker.free_at - LEAD_SECONDS


def _load(worker: Worker) -> tuple[int, float]:
    return worker.held, worker.cost.seconds(*TYPICAL)
