"""The lanes: how a request's items get into them, and how a leader reads them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from scheduler.errors import QueueFullError
from scheduler.keys import LANES, MODELS, NEW_MODEL_CHANNEL, Lane, ModelKeys
from scheduler.lua import Step, packed
from scheduler.messages import Entry, Item
from scheduler.settings import REQUEST_TTL_MS

READ_COUNT = 512
"""Entries taken from a lane in one read: a bound on the reply's size, not on the lane's."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item as the policy sees it: what it costs and how long it has waited, without its token ids.

    `priority`, `tenant`, `deadline_ms` and `weight` are the item's own; see `Item`.
    """

    entry: Entry
    request_id: str
    tokens: int
    created_ms: int
    attempts: int
    priority: int = 0
    tenant: str = ""
    deadline_ms: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most tokens that may be queued for a model.

    Attributes:
        lane: in one lane.
        tenant: of one tenant in a lane.
    """

    lane: int
    tenant: int


UNBOUNDED = Bounds(2**53, 2**53)


def enqueue(
    keys: ModelKeys, lane: Lane, request_id: str, items: Sequence[Item], channel: str, bounds: Bounds | None = None
) -> Step:
    """Accepts a request and all its items, in the order of their index, or changes nothing; see `check_accepted`.

    The request's deadline and tenant are those of its items, which have them in common.

    Args:
        bounds: beyond which it is refused; None for what was accepted before, and Redis has lost.
    """
    most = (bounds.lane, bounds.tenant) if bounds else (0, 0)
    first = items[0]
    return Step(
        "enqueue",
        [
            keys.request(request_id),
            keys.lane(lane),
            keys.queued,
            keys.pace,
            keys.line,
            keys.promise(_digest(items) if bounds else ""),
        ],
        [
            request_id,
            channel,
            REQUEST_TTL_MS,
            first.deadline_ms,
            packed([item.encode() for item in items]),
            packed([item.tokens for item in items]),
            LANES.index(lane),
            first.tenant,
            *most,
        ],
    )


def check_accepted(reply: Any) -> None:
    """Raises QueueFullError where `enqueue` replied that a request is refused."""
    if isinstance(reply, list):
        bound, queued, milliseconds = reply
        raise QueueFullError(bound.decode(), queued, None if milliseconds < 0 else milliseconds / 1000)


def _digest(items: Sequence[Item]) -> str:
    """Tells a request that comes again by its tokens."""
    found = hashlib.blake2b(digest_size=12)
    for item in items:
        found.update(item.ids)
    found.update(items[0].tenant.encode())
    return found.hexdigest()


def drop(keys: ModelKeys, entries: Sequence[Entry]) -> Step:
    """Takes items out of their lanes that nobody waits for; its reply is, for each, 1 or, if it waits still, 0."""
    places = [place for entry in entries for place in (entry.lane, entry.entry_id)]
    return Step("drop", [keys.claims, keys.counters, *keys.lanes, keys.queued], [keys.request_prefix, *places])


async def abandon(redis: Redis, keys: ModelKeys, request_ids: Sequence[str]) -> None:
    """Takes requests back whose callers have left: their items are dropped when met, before they cost anything."""
    if request_ids:
        await redis.delete(*(key for each in request_ids for key in (keys.request(each), keys.result(each))))


async def announce_model(redis: Redis, model: str) -> None:
    """Makes a model known to the schedulers."""
    if await redis.sadd(MODELS, model):
        await redis.publish(NEW_MODEL_CHANNEL, model)


class LaneReader:
    """Reads what lies in a model's lanes, each entry once, from the oldest on.

    Reading changes nothing in Redis: an entry belongs to nobody until it is leased, so a leader that dies with entries
    in hand has lost nothing, and its successor simply reads from the start.
    """

    def __init__(self, redis: Redis, keys: ModelKeys) -> None:
        self._redis = redis
        self._names = [keys.lane(lane).encode() for lane in LANES]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._cursors = dict.fromkeys(self._numbers, b"0-0")

    async def read(self, block_ms: int) -> list[Waiting]:
        """The next entries of all lanes; empty when none came within `block_ms`."""
        found = []
        for key, entries in await self._redis.xread(self._cursors, count=READ_COUNT, block=block_ms) or []:
            found += _all_waiting(self._numbers[key], entries)
            self._cursors[key] = entries[-1][0]
        return found

    async def read_again(self, lane: int, first: str, last: str) -> tuple[list[Waiting], str | None]:
        """The first of the entries from one to another, and the id of the last that was read, None without any."""
        entries = await self._redis.xrange(self._names[lane], first, last, count=READ_COUNT)
        return _all_waiting(lane, entries), entries[-1][0].decode() if entries else None


def order_of(entry_id: str) -> tuple[int, int]:
    """An entry's id as something to compare by: milliseconds of Redis's clock, and a number within them."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def follows(entry_id: str) -> str:
    """The least id behind an entry's."""
    milliseconds, number = order_of(entry_id)
    return f"{milliseconds}-{number + 1}"


def _all_waiting(lane: int, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Waiting]:
    return [
        _waiting(Entry(lane, entry_id.decode()), Item.decode(fields[b"item"]), int(fields[b"attempts"]))
        for entry_id, fields in entries
    ]


def _waiting(entry: Entry, item: Item, attempts: int) -> Waiting:
    cost = (item.tokens, item.created_ms, attempts)
    return Waiting(entry, item.request_id, *cost, item.priority, item.tenant, item.deadline_ms, item.weight)
