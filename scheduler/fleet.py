"""The living workers of a model as its leader sees them: who has a free slot, and what fits into it."""

from dataclasses import dataclass

from redis.asyncio import Redis

from scheduler.draft import Budget
from scheduler.keys import ModelKeys


@dataclass(slots=True)
class Worker:
    """A worker's life signs, and how many micro-batches it holds."""

    worker_id: str
    slots: int
    budget: Budget
    held: int = 0


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
        self._workers = {}
        gone = []
        for worker_id, (slots, tokens, sequences) in zip(ids, signs, strict=True):
            if slots is None:
                gone.append(worker_id)
                continue
            budget = Budget(int(tokens), int(sequences))
            taken = int(held.get(worker_id.encode(), 0))
            self._workers[worker_id] = Worker(worker_id, int(slots), budget, taken)
        if gone:
            await self._redis.srem(self._keys.workers, *gone)
        return gone

    def freed(self, worker_id: str) -> None:
        """A slot of this worker became free."""
        if (worker := self._workers.get(worker_id)) and worker.held:
            worker.held -= 1

    def least_busy(self) -> Worker | None:
        """The worker with a free slot that holds least; None while all are full."""
        free = [worker for worker in self._workers.values() if worker.held < worker.slots]
        return min(free, key=lambda worker: worker.held, default=None)
