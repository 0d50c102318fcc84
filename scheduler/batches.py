"""Batches: what is known of them, and the atomic steps by which any number of processes work on them.

A batch's hash holds what was asked for (owner, endpoint, input, window, metadata, output_life, webhook, created and
expires in Unix seconds), its status and the times of it, chunks and next (how its lines are cut, and the first chunk
that nobody has had), total, completed, failed, input_tokens, total_tokens, model, and at its end output_file,
error_file, errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scheduler.files import StoredFile
from scheduler.keys import (
    EXPIRING_FILES,
    JOBS,
    OPEN_BATCHES,
    batch_chunks,
    batch_claims,
    batch_holders,
    batch_key,
    batches_of,
    file_key,
    files_of,
)
from scheduler.lua import Argument, Step
from scheduler.settings import BATCH_KEPT_MS, BATCH_LEASE_MS

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
    """

    batch_id: str
    name: str
    token: str


def create_batch(batch_id: str, owner: str, input_id: str, microseconds: int, fields: Mapping[str, Argument]) -> Step:
    """Makes a batch, once; its reply is 0 when the input is not there, or not the owner's."""
    keys = [batch_key(batch_id), batches_of(owner), OPEN_BATCHES, file_key(input_id)]
    pairs = [each for pair in fields.items() for each in pair]
    return Step("create_batch", keys, [batch_id, owner, microseconds, *pairs])


def claim_part(token: str, microseconds: int) -> Step:
    """Takes the next part that is to be done; read its reply with `claimed_part`."""
    return Step("claim_batch", [OPEN_BATCHES], [JOBS, token, BATCH_LEASE_MS, microseconds], _SHARED)


def claimed_part(reply: Any, token: str) -> Part | None:
    """What `claim_part` replied."""
    return Part(reply[0].decode(), reply[1].decode(), token) if reply else None


def renew_parts(parts: Sequence[Part]) -> Step:
    """Renews leases; its reply is a `Word` for each part."""
    places = [each for part in parts for each in (part.batch_id, part.name, part.token)]
    return Step("renew_batch", [OPEN_BATCHES], [JOBS, BATCH_LEASE_MS, *places], _SHARED)


def start_batch(part: Part, now: int, chunks: int, lines: int, model: str) -> Step:
    """Ends a validation that found nothing wrong."""
    keys = [batch_key(part.batch_id), batch_claims(part.batch_id), batch_holders(part.batch_id)]
    return Step("start_batch", keys, [part.token, now, chunks, lines, model], _SHARED)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a chunk adds to its batch."""

    completed: int
    failed: int
    input_tokens: int
    total_tokens: int


def commit_chunk(part: Part, counted: Counted, now: int) -> Step:
    """Writes down that a chunk is done; its reply is 0 when that is another's to say, or was said."""
    batch = part.batch_id
    keys = [batch_key(batch), batch_claims(batch), batch_holders(batch), batch_chunks(batch)]
    counts = [counted.completed, counted.failed, counted.input_tokens, counted.total_tokens]
    return Step("commit_chunk", keys, [part.name, part.token, *counts, now], _SHARED)


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
    status: str,
    fields: Mapping[str, Argument],
    files: Sequence[StoredFile],
    microseconds: int,
    webhook: bytes,
) -> Step:
    """Ends a batch with what came of it; its reply is 0 when that is another's to say, or was said."""
    batch = part.batch_id
    keys = [batch_key(batch), batch_claims(batch), batch_holders(batch), batch_chunks(batch), OPEN_BATCHES]
    arguments: list[Argument] = [batch, part.name, part.token, JOBS, webhook, BATCH_KEPT_MS, status, len(fields)]
    arguments += [each for pair in fields.items() for each in pair]
    for file in files:
        found = file.fields()
        arguments += [file.file_id, microseconds, file.expires, len(found) // 2, *found]
    return Step("end_batch", [*keys, files_of(owner), EXPIRING_FILES], arguments, _ENDING)
