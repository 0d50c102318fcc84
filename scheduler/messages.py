"""What travels: items to the lanes, micro-batches to the workers, results to the callers.

Everything is msgpack or raw little-endian bytes. Each message is an immutable value with `encode` and `decode`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from scheduler.cost import Sample

TOKEN_BYTES = 4
"""Token ids are little-endian int32."""

RUN_BATCH = "millpond.run_batch"
"""The name of the one Celery task, shared by the scheduler that sends it and the worker that runs it."""

_VECTOR = b"w"
_UNTIMED_VECTOR = b"v"  # written by earlier versions
_ERROR = b"e"

# What stands before the values of a vector: its letter, then two little-endian unsigned numbers of 32 bits.
_VECTOR_HEAD = struct.Struct("<cII")
_LONGEST_US = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence to pool: the unit of queueing.

    `ids` are the sequence's token ids, little-endian int32. `dimensions` and `normalize` are the caller's pooling
    parameters, None where the model's own setting holds. `created_ms` is the Unix time of its acceptance.
    `second_from` is the place in `ids` where the second text of a pair begins as another segment, None for one text.
    `priority` orders the items of one `tenant` in a lane, the lower the earlier. `deadline_ms` is the Unix time after
    which nobody wants the result, 0 for none. `pooling_type` and `activation` are other than the model's own where they
    are given, by their names in pooling.pooler_config. `weight` is the tenant's share of a lane beside other tenants'.
    `images` are the SHA-256 of its images' files, which `scheduler.blobs` keeps; `image_options`, JSON, says how they
    are processed, b"" as the model does. `computed` is how many tokens are computed for it, 0 as many as `ids` has: an
    image that is a sequence of its own has one id, and some models fill every text up.
    """

    request_id: str
    index: int
    ids: bytes
    created_ms: int
    dimensions: int | None = None
    normalize: bool | None = None
    second_from: int | None = None
    priority: int = 0
    tenant: str = ""
    deadline_ms: int = 0
    pooling_type: str | None = None
    activation: str | None = None
    weight: int = 1
    images: tuple[bytes, ...] = ()
    image_options: bytes = b""
    computed: int = 0

    @property
    def tokens(self) -> int:
        """The number of tokens that are computed for it: by these it is queued, batched and paced."""
        return self.computed or len(self.ids) // TOKEN_BYTES

    def encode(self) -> bytes:
        """The item as msgpack."""
        pooling = (self.dimensions, self.normalize, self.second_from)
        order = (self.priority, self.tenant, self.deadline_ms)
        overrides = (self.pooling_type, self.activation)
        images = (self.images, self.image_options)
        packed: bytes = msgpack.packb(
            [
                self.request_id,
                self.index,
                self.ids,
                self.created_ms,
                *pooling,
                *order,
                *overrides,
                self.weight,
                *images,
                self.computed,
            ]
        )
        return packed

    @classmethod
    def decode(cls, data: bytes) -> "Item":
        """The item that `encode` wrote, perhaps in another version.

        Fields are only ever added at the end: those of a later version are ignored, those that an earlier version did
        not write keep their defaults.
        """
        fields = msgpack.unpackb(data)
        if len(fields) > 13:
            fields[13] = tuple(fields[13])
        return cls(*fields[:16])


@dataclass(frozen=True, slots=True)
class Vector:
    """A pooled sequence: little-endian float32 values.

    `queued_us` are the microseconds from the item's acceptance until a worker began with it, `forward_us` those of the
    forward that it shared with others of its micro-batch. More than 71 minutes count as 71 minutes.
    """

    data: bytes
    queued_us: int = 0
    forward_us: int = 0

    def encode(self) -> bytes:
        """One letter for the kind, the two times, then the values."""
        queued, forward = min(self.queued_us, _LONGEST_US), min(self.forward_us, _LONGEST_US)
        return _VECTOR_HEAD.pack(_VECTOR, queued, forward) + self.data


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no vector: an HTTP status, a code for programs and a sentence for people."""

    status: int
    code: str
    message: str

    def encode(self) -> bytes:
        """One letter for the kind, then msgpack."""
        packed: bytes = msgpack.packb([self.status, self.code, self.message])
        return _ERROR + packed


Result = Vector | Failure


@dataclass(frozen=True, slots=True)
class Posting:
    """A Celery message and the Redis list that it belongs into."""

    queue_key: str
    message: bytes


def decode_result(data: bytes) -> Result:
    """The result that `Vector.encode` or `Failure.encode` wrote, perhaps in an earlier version."""
    kind = data[:1]
    if kind == _VECTOR:
        _, queued_us, forward_us = _VECTOR_HEAD.unpack_from(data)
        return Vector(data[_VECTOR_HEAD.size :], queued_us, forward_us)
    if kind == _UNTIMED_VECTOR:
        return Vector(data[1:])
    return Failure(*msgpack.unpackb(data[1:]))


class Entry(NamedTuple):
    """Where an item lies: its lane's number in `LANES` and the id of its stream entry.

    A tuple, for it is the key by which a leader finds its items: it is hashed some ten times on an item's way.
    """

    lane: int
    entry_id: str


@dataclass(frozen=True, slots=True)
class LeasedItem:
    """An item as its worker gets it, with the entry to strike out when its result is written."""

    entry: Entry
    item: Item


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The items of one forward, held under one lease."""

    batch_id: str
    items: tuple[LeasedItem, ...]

    @property
    def tokens(self) -> int:
        """The number of tokens in all its sequences."""
        return sum(leased.item.tokens for leased in self.items)

    @property
    def urgent(self) -> bool:
        """Whether an interactive caller waits for it."""
        return any(leased.entry.lane == 0 for leased in self.items)


def encode_profile(samples: Sequence[Sample]) -> bytes:
    """The batches that a worker ran before its first, for its heartbeat, as msgpack."""
    packed: bytes = msgpack.packb(samples)
    return packed


def decode_profile(data: bytes | None) -> list[Sample]:
    """What `encode_profile` wrote; nothing of a worker of an earlier version."""
    return [Sample(*each) for each in msgpack.unpackb(data)] if data else []
