"""The ledger that several machines share: keys in a Redis that all of them reach."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from api.bulk.errors import BulkError
from api.bulk.ledger import ChunkResult, PlannedChunk, Totals
from scheduler.connection import connect, is_passing
from scheduler.keys import BackfillKeys
from scheduler.lua import Step

LONGEST_PAUSE_SECONDS = 2.0

T = TypeVar("T")


class RedisLedger:
    """A ledger in Redis. While Redis is away its calls wait, until `close`.

    Every step may be repeated when its reply was lost: a claim, a renewal and a record come out the same, and a
    commit that was counted is not counted again.

    Args:
        url: of the Redis.
        backfill_id: under which its keys lie.
        say: is told what is waited for, and None when it is over.
    """

    def __init__(self, url: str, backfill_id: str, say: Callable[[str | None], None] = lambda _: None) -> None:
        self._redis = connect(url)
        self._keys = BackfillKeys(backfill_id)
        self._say = say
        self._closed = threading.Event()

    def settings(self, offered: str) -> str:
        """See `Ledger.settings`."""
        self._persist(lambda: self._redis.setnx(self._keys.settings, offered))
        return str(self._persist(lambda: self._redis.get(self._keys.settings)).decode())

    def record(self, chunks: Sequence[PlannedChunk]) -> int | None:
        """See `Ledger.record`."""
        keys = self._keys
        given = [part for each in chunks for part in (each.number, each.chunk, each.rows)]
        found = int(self._run("chunk_record", [keys.chunks, keys.open, keys.totals], given))
        return found if found != RECORDED else None

    def claim(self, number: int, token: str, seconds: float) -> str | None:
        """See `Ledger.claim`."""
        keys = self._keys
        named = [keys.chunks, keys.open, keys.leases, keys.tokens, keys.results]
        found = self._run("chunk_claim", named, [number, token, _milliseconds(seconds)])
        return found and str(found.decode())

    def renew(self, number: int, token: str, seconds: float) -> bool:
        """See `Ledger.renew`."""
        return self._keep(number, token, _milliseconds(seconds))

    def release(self, number: int, token: str) -> bool:
        """See `Ledger.release`."""
        return self._keep(number, token, 0)

    def _keep(self, number: int, token: str, lease_ms: int) -> bool:
        keys = self._keys
        return bool(self._run("chunk_keep", [keys.open, keys.leases, keys.tokens], [number, token, lease_ms]))

    def commit(self, number: int, result: ChunkResult) -> bool:
        """See `Ledger.commit`."""
        keys = self._keys
        named = [keys.open, keys.leases, keys.tokens, keys.results, keys.totals]
        counts = [result.rows, result.bad, result.duplicates]
        return bool(self._run("chunk_commit", named, [number, result.encode(), *counts]))

    def totals(self) -> Totals:
        """See `Ledger.totals`."""
        found = self._persist(lambda: self._redis.hgetall(self._keys.totals))
        return Totals(**{name.decode(): int(count) for name, count in found.items()})

    def open_chunks(self, limit: int) -> list[int]:
        """See `Ledger.open_chunks`."""
        keys = self._keys
        return [int(each) for each in self._run("chunk_open", [keys.open, keys.leases, keys.tokens], [limit])]

    def result(self, number: int) -> ChunkResult | None:
        """See `Ledger.result`."""
        found = self._persist(lambda: self._redis.hget(self._keys.results, str(number)))
        return found and ChunkResult.decode(found)

    def clear(self) -> None:
        """See `Ledger.clear`."""
        keys = self._keys
        every = [keys.settings, keys.chunks, keys.open, keys.leases, keys.tokens, keys.results, keys.totals]
        self._persist(lambda: self._redis.delete(*every))

    def close(self) -> None:
        """See `Ledger.close`."""
        self._closed.set()
        self._redis.close()

    def _run(self, name: str, keys: list[str], arguments: Sequence[str | bytes | int]) -> Any:
        return self._persist(lambda: Step(name, keys, arguments).run_blocking(self._redis))

    def _persist(self, call: Callable[[], T]) -> T:
        """The reply, asked for again with growing pauses while Redis is away."""
        pause, waited = 0.05, False
        while True:
            try:
                reply = call()
            except (RedisError, OSError) as error:
                if not is_passing(error) or self._closed.is_set():
                    raise BulkError(f"The ledger in Redis cannot be used: {error}. Correct --ledger.") from error
                waited = True
                self._say("the ledger's Redis")
                self._closed.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                if waited:
                    self._say(None)
                return reply


RECORDED = -2
"""What `chunk_record.lua` answers when nothing is recorded otherwise."""


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
