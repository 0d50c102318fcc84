"""Batches: what is known of them, and the atomic steps by which any number of processes work on them.

A batch's hash holds what was asked for (owner, endpoint, input, window, metadata, output_life, webhook, created and
expires in Unix seconds), its status and the times of it, chunks and next (how its lines are cut, and the first chunk
that nobody has had), total, completed, failed, tokens, model, and at its end output_file,
error_file, errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from scheduler.files import StoredFile
from scheduler.keys import (
    BATCH_OWNERS,
    EXPIRING_FILES,
    JOBS,
    batch_by_key,
    batch_chunks,
    batch_claims,
    batch_holders,
    batch_key,
    batches_of,
    file_key,
    file_readers,
    files_of,
    open_batches,
)
from scheduler.lua import Argument, Step
from scheduler.settings import BATCH_KEPT_MS, BATCH_KEY_KEPT_MS, BATCH_LEASE_MS, PARTS_KEPT_SECONDS

_SHARED = ("prelude", "batch")
_ENDING = ("prelude", "batch", "outbox")

VALIDATE, FINISH = "validate", "finish"
"""The stages of a batch, beside its chunks, which are numbers."""


class Word(StrEnum):
    """What a process hears that renews the lease of a part."""

    GO_ON = "on"
    STOP = "stop"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a batch's work that a process has: a stage, or the number of a chunk.

    Attributes:
        token: of the claim; part files bear it, and what is written under an old one changes nothing.
        owner: whose batch it is, as the keys have it.
    """

    batch_id: str
    name: str
    token: str
    owner: str

    @property
    def is_chunk(self) -> bool:
        """Whether it is lines to run."""
        return self.name not in (VALIDATE, FINISH)


class Creation(StrEnum):
    """What became of a batch that was handed in."""

    NEW = "new"
    SAME = "same"
    OTHER = "other"
    NONE = "none"

    @classmethod
    def of(cls, reply: Sequence[bytes]) -> tuple["Creation", str]:
        """The reply of `create_batch`: this, and the id of the batch that is there."""
        return cls(reply[0].decode()), reply[1].decode()


def create_batch(
    batch_id: str,
    owner: str,
    input_id: str,
    microseconds: int,
    fields: Mapping[str, Argument],
    idempotency_key: str = "",
    fingerprint: str = "",
) -> Step:
    """Makes a batch, once; read its reply with `Creation.of`.

    Args:
        fingerprint: of what is asked for with this idempotency key; "" without one.
    """
    keys = [batch_key(batch_id), batches_of(owner), open_batches(owner), BATCH_OWNERS]
    keys += [file_key(input_id), file_readers(input_id), batch_by_key(owner, idempotency_key)]
    arguments: list[Argument] = [batch_id, owner, quote(owner, safe=""), microseconds, fingerprint, BATCH_KEY_KEPT_MS]
    return Step("create_batch", keys, [*arguments, *(each for pair in fields.items() for each in pair)])


def claim_part(token: str, microseconds: int, *, chunks: bool, stages: bool, slow: Sequence[str] = ()) -> Step:
    """Takes the next part that is to be done; read its reply with `claimed_part`.

    Args:
        chunks, stages: which kinds of parts there is room for.
        slow: owners, as the keys have them, of whom no chunks are wanted.
    """
    arguments: list[Argument] = [JOBS, token, BATCH_LEASE_MS, microseconds, int(chunks), int(stages), *slow]
    return Step("claim_batch", [BATCH_OWNERS], arguments, _SHARED)


def claimed_part(reply: Any, token: str) -> Part | None:
    """What `claim_part` replied."""
    return Part(reply[0].decode(), reply[1].decode(), token, reply[2].decode()) if reply else None


def renew_parts(parts: Sequence[Part]) -> Step:
    """Renews leases; its reply is a `Word` for each part."""
    places = [each for part in parts for each in (part.batch_id, part.name, part.token)]
    return Step("renew_batch", [JOBS], [BATCH_LEASE_MS, *places], _SHARED)


def start_batch(part: Part, now: int, chunks: int, lines: int, model: str) -> Step:
    """Ends a validation that found nothing wrong."""
    keys = [batch_key(part.batch_id), batch_claims(part.batch_id), batch_holders(part.batch_id)]
    return Step("start_batch", keys, [part.token, now, chunks, lines, model], _SHARED)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a chunk adds to its batch."""

    completed: int
    failed: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Winner:
    """The claim that did a chunk.

    Attributes:
        kinds: of the part files that it wrote: one that is missing has been lost.
    """

    token: str
    kinds: tuple[str, ...]

    def encode(self) -> str:
        """As it is kept."""
        return " ".join((self.token, *self.kinds))

    @classmethod
    def decode(cls, kept: bytes) -> "Winner":
        """What `encode` made."""
        token, *kinds = kept.decode().split()
        return cls(token, tuple(kinds))


def commit_chunk(part: Part, counted: Counted, kinds: Sequence[str], now: int) -> Step:
    """Writes down that a chunk is done; its reply is 0 when that is another's to say, or was said.

    Args:
        kinds: of the part files that were written.
    """
    batch = part.batch_id
    keys = [batch_key(batch), batch_claims(batch), batch_holders(batch), batch_chunks(batch)]
    counts = [counted.completed, counted.failed, counted.tokens]
    kept = Winner(part.token, tuple(kinds)).encode()
    return Step("commit_chunk", keys, [part.name, part.token, *counts, now, kept], _SHARED)


def release_part(part: Part) -> Step:
    """Gives a part back: another may have it at once."""
    keys = [batch_claims(part.batch_id), batch_holders(part.batch_id)]
    return Step("release_batch", keys, [part.name, part.token], _SHARED)


def cancel_batch(batch_id: str, owner: str, now: int) -> Step:
    """Cancels a batch that has not ended; its reply is 0 when there is none."""
    return Step("cancel_batch", [batch_key(batch_id)], [owner, now])


def end_batch(
    part: Part,
    owner: str,
    input_id: str,
    status: str,
    fields: Mapping[str, Argument],
    files: Sequence[StoredFile],
    microseconds: int,
    webhook: bytes,
) -> Step:
    """Ends a batch with what came of it; its reply is 0 when that is another's to say, or was said."""
    batch = part.batch_id
    keys = [batch_key(batch), batch_claims(batch), batch_holders(batch), batch_chunks(batch), open_batches(owner)]
    keys += [file_readers(input_id), files_of(owner), EXPIRING_FILES]
    arguments: list[Argument] = [batch, part.name, part.token, JOBS, webhook, BATCH_KEPT_MS, PARTS_KEPT_SECONDS]
    arguments += [status, len(fields)]
    arguments += [each for pair in fields.items() for each in pair]
    for file in files:
        found = file.fields()
        arguments += [file.file_id, microseconds, file.expires, len(found) // 2, *found]
    return Step("end_batch", keys, arguments, _ENDING)
