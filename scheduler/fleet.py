"""The living workers of a model as its leader sees them: who has a free slot, what fits into it, how fast they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis

from scheduler.cost import Cost, Sample
from scheduler.draft import Budget
from scheduler.keys import ModelKeys
from scheduler.messages import decode_profile

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


class Fleet:
    """Follows the workers by their heartbeats; between two looks it keeps count by itself."""

    def __init__(self, redis: Redis, keys: ModelKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._workers: dict[str, Worker] = {}

    async def refresh(self) -> list[str]:
        """Looks at the heartbeats and the slots taken; the ids of workers that are gone."""
        ids = [member.decode() for member in await self._redis.smembers(self._keys.workers)]
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(self._keys.held)
            for worker_id in ids:
                pipeline.hmget(self._keys.worker(worker_id), "slots", "max_num_batched_tokens", "max_num_seqs")
            held, *signs = await pipeline.execute()
        found, gone = {}, []
        for worker_id, (slots, tokens, sequences) in zip(ids, signs, strict=True):
            if slots is None:
                gone.append(worker_id)
                continue
            known = self._workers.get(worker_id)
            cost = known.cost if known else await self._cost_of(worker_id)
            worker = Worker(worker_id, int(slots), int(tokens), int(sequences), cost)
            worker.held = int(held.get(worker_id.encode(), 0))
            # News of a batch's end may get lost. With nothing held there is nothing urgent.
            worker.urgent = known.urgent if known and worker.held else set()
            found[worker_id] = worker
        self._workers = found
        if gone:
            await self._redis.srem(self._keys.workers, *gone)
        return gone

    async def _cost_of(self, worker_id: str) -> Cost:
        """What a worker that has come says of its speed."""
        return Cost.of(decode_profile(await self._redis.hget(self._keys.worker(worker_id), "profile")))

    def freed(self, worker_id: str, batch_id: str, sample: Sample | None) -> None:
        """A slot of this worker became free."""
        if (worker := self._workers.get(worker_id)) is None:
            return
        worker.held = max(0, worker.held - 1)
        worker.urgent.discard(batch_id)
        if sample:
            worker.cost.learn(sample)

    def promised(self) -> float:
        """Tokens a second of all workers together, as their costs have it; 0 without any."""
        seconds = (worker.cost.seconds(*TYPICAL) for worker in self._workers.values())
        return sum(TYPICAL[0] / each for each in seconds if each > 0)

    def batch_seconds(self) -> float:
        """What a full batch takes on the slowest worker."""
        full = ((worker.cost, worker.tokens) for worker in self._workers.values())
        return max((cost.seconds(tokens, tokens * TYPICAL[1] // TYPICAL[0]) for cost, tokens in full), default=0.0)

    def free_slot(self, *, urgent: bool) -> Slot | None:
        """A slot of the worker that holds least, of several the fastest; None while all are full.

        Args:
            urgent: whether interactive callers wait: where all slots hold what others do, one more is for them.
        """
        free = [worker for worker in self._workers.values() if worker.held < worker.slots]
        if free:
            return Slot(min(free, key=_load))
        full = [each for each in self._workers.values() if urgent and each.held == each.slots and not each.urgent]
        return Slot(min(full, key=_load), express=True) if full else None


def _load(worker: Worker) -> tuple[int, float]:
    return worker.held, worker.cost.seconds(*TYPICAL)


def sample_of(measured: Sequence[str]) -> Sample | None:
    """What a worker says that a batch took: tokens, sum of squared lengths and seconds; None where it says nothing."""
    if len(measured) != 3:
        return None
    tokens, squares, seconds = measured
    return Sample(int(tokens), int(squares), float(seconds))
