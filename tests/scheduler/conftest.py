"""A model's queue on a real Redis, and the steps a request takes through it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from redis import Redis

from scheduler import leases
from scheduler.connection import connect
from scheduler.keys import Lane, ModelKeys
from scheduler.messages import Entry, Item, MicroBatch, Vector
from scheduler.queue import Bounds, check_accepted, drop, enqueue

CHANNEL = "millpond:wake:test"


@dataclass
class Bench:
    """A queue with short words for its steps."""

    redis: Redis
    keys: ModelKeys
    token: int = 0

    def accept(
        self,
        request_id: str,
        count: int = 1,
        lane: Lane = Lane.INTERACTIVE,
        deadline_ms: int = 0,
        tenant: str = "",
        bounds: Bounds | None = None,
    ) -> int:
        items = [
            Item(request_id, index, b"\1\0\0\0" * (index + 1), 1, deadline_ms=deadline_ms, tenant=tenant)
            for index in range(count)
        ]
        reply = enqueue(self.keys, lane, request_id, items, CHANNEL, bounds).run_blocking(self.redis)
        check_accepted(reply)
        return int(reply)

    def queued(self) -> dict[str, int]:
        found = self.redis.hgetall(self.keys.queued)
        return {field.decode(): int(tokens) for field, tokens in found.items()}

    def lead(self) -> int:
        self.token = int(leases.lead(self.keys, None).run_blocking(self.redis))
        return self.token

    def entries(self, lane: int = 0) -> list[Entry]:
        return [Entry(lane, entry_id.decode()) for entry_id, _ in self.redis.xrange(self.keys.lanes[lane])]

    def lease(
        self, batch_id: str, entries: list[Entry] | None = None, slots: int = 9, worker: str = "w1"
    ) -> int | leases.Refusal:
        wanted = self.entries() if entries is None else entries
        step = leases.lease(self.keys, self.token, batch_id, worker, slots, wanted)
        return leases.leased_count(step.run_blocking(self.redis))

    def claim(self, batch_id: str, worker: str = "w1") -> MicroBatch | None:
        reply = leases.claim(self.keys, batch_id, worker).run_blocking(self.redis)
        return leases.claimed_batch(batch_id, reply)

    def commit(self, batch: MicroBatch, data: bytes = b"1234") -> int:
        answers = [(leased, Vector(data)) for leased in batch.items]
        return int(leases.commit(self.keys, batch.batch_id, answers).run_blocking(self.redis))

    def release(self, batch_id: str, only_expired: bool = False) -> list[int] | None:
        reply: list[int] | None = leases.release(self.keys, batch_id, "tried", only_expired).run_blocking(self.redis)
        return reply

    def results(self, request_id: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.redis.hgetall(self.keys.result(request_id))
        return found

    def counter(self, name: str) -> int:
        return int(self.redis.hget(self.keys.counters, name) or 0)

    def drop(self, entries: list[Entry]) -> list[int]:
        reply: list[int] = drop(self.keys, entries).run_blocking(self.redis)
        return reply

    def expire(self, request_id: str) -> None:
        """Lets a request's deadline pass, of which its items know another."""
        self.redis.hset(self.keys.request(request_id), "deadline", 1)

    def held(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.redis.hgetall(self.keys.held)
        return found

    def expire_lease(self, batch_id: str) -> None:
        self.redis.zadd(self.keys.leases, {batch_id: 1})


@pytest.fixture
def bench(clean_redis_url: str) -> Iterator[Bench]:
    redis = connect(clean_redis_url)
    bench = Bench(redis, ModelKeys("a model"))
    bench.lead()
    yield bench
    redis.close()
