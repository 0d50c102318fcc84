"""The living workers of a model, followed by their heartbeats."""

from collections.abc import Sequence

from redis.asyncio import Redis

from scheduler.cost import Cost, Sample
from scheduler.keys import ModelKeys
from scheduler.messages import decode_profile
from scheduler.roster import Roster, Worker


class Fleet(Roster):
    """Follows the workers by their heartbeats; between two looks it keeps count by itself."""

    def __init__(self, redis: Redis, keys: ModelKeys) -> None:
        super().__init__()
        self._redis = redis
        self._keys = keys

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
            known = self.workers.get(worker_id)
            cost = known.cost if known else await self._cost_of(worker_id)
            worker = Worker(worker_id, int(slots), int(tokens), int(sequences), cost)
            worker.held = int(held.get(worker_id.encode(), 0))
            # News of a batch's end may get lost. With nothing held there is nothing urgent.
            if known and worker.held:
                worker.urgent, worker.expected, worker.free_at = known.urgent, known.expected, known.free_at
            found[worker_id] = worker
        self.workers = found
        if gone:
            await self._redis.srem(self._keys.workers, *gone)
        return gone

    async def _cost_of(self, worker_id: str) -> Cost:
        """What a worker that has come says of its speed."""
        return Cost.of(decode_profile(await self._redis.hget(self._keys.worker(worker_id), "profile")))


def sample_of(measured: Sequence[str]) -> Sample | None:
    """What a worker says that a batch took: tokens, sum of squared lengths and seconds; None where it says nothing."""
    if len(measured) != 3:
        return None
    tokens, squares, seconds = measured
    return Sample(int(tokens), int(squares), float(seconds))
