"""Workers and their slots, as far as a leader keeps count of them by itself."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduler.cost import Cost, Sample
from scheduler.draft import Budget
from scheduler.queue import Waiting

TYPICAL = (512, 512 * 64)
"""Tokens and squared lengths of the batch by which workers are compared."""


@dataclass(slots=True)
class Worker:
    """A worker's life signs, how many micro-batches it holds, and what is known of its speed.

    Attributes:
        urgent: those of the batches sent to it that interactive callers wait for.
    """

    worker_id: str
    slots: int
    tokens: int
    sequences: int
    cost: Cost
    held: int = 0
    urgent: set[str] = field(default_factory=set)

    def budget(self, brief_seconds: float | None) -> Budget:
        """What one forward of it may hold; those of the lanes below the first for no longer than this."""
        return Budget(self.tokens, self.sequences, brief_seconds, self.cost.seconds)

    def takes(self, batch_id: str, batch: Iterable[Waiting]) -> None:
        """One of its slots is taken by a batch that is on its way to it."""
        self.held += 1
        if any(waiting.entry.lane == 0 for waiting in batch):
            self.urgent.add(batch_id)


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

    def freed(self, worker_id: str, batch_id: str, sample: Sample | None) -> None:
        """A slot of this worker became free."""
        if (worker := self.workers.get(worker_id)) is None:
            return
        worker.held = max(0, worker.held - 1)
        worker.urgent.discard(batch_id)
        if sample:
            worker.cost.learn(sample)

    def promised(self) -> float:
        """Tokens a second of all workers together, as their costs have it; 0 without any."""
        seconds = (worker.cost.seconds(*TYPICAL) for worker in self.workers.values())
        return sum(TYPICAL[0] / each for each in seconds if each > 0)

    def batch_seconds(self) -> float:
        """What a full batch takes on the slowest worker."""
        full = ((worker.cost, worker.tokens) for worker in self.workers.values())
        return max((cost.seconds(tokens, tokens * TYPICAL[1] // TYPICAL[0]) for cost, tokens in full), default=0.0)

    def free_slot(self, *, urgent: bool) -> Slot | None:
        """A slot of the worker that holds least, of several the fastest; None while all are full.

        Args:
            urgent: whether interactive callers wait: where a slot holds what others wait for, one more is for them.
        """
        free = [worker for worker in self.workers.values() if worker.held < worker.slots]
        if free:
            return Slot(min(free, key=_load))
        full = [each for each in self.workers.values() if urgent and each.held == each.slots > len(each.urgent)]
        return Slot(min(full, key=_load), express=True) if full else None


def _load(worker: Worker) -> tuple[int, float]:
    return worker.held, worker.cost.seconds(*TYPICAL)
