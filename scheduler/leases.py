"""Leases: who may run which micro-batch, and for how long. The one mechanism by which lost work comes back."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from scheduler.cost import Sample
from scheduler.keys import ModelKeys
from scheduler.lua import Argument, Step, packed
from scheduler.messages import Entry, Item, LeasedItem, MicroBatch, Posting, Result
from scheduler.settings import (
    ATTEMPTS_ALLOWED,
    CLAIM_MS,
    DEAD_LETTERS_KEPT,
    LEADER_TTL_MS,
    LEASE_MS,
    RESULT_TTL_MS,
    WORKER_TTL_MS,
)


class Refusal(Enum):
    """Why no lease was given."""

    FENCED = auto()
    FULL = auto()


def lead(keys: ModelKeys, token: int | None) -> Step:
    """Takes or keeps the leadership; its reply is the fencing token, or 0 while another leads."""
    return Step("lead", [keys.leader, keys.leader_count], ["" if token is None else token, LEADER_TTL_MS])


def resign(keys: ModelKeys, token: int) -> Step:
    """Gives the leadership up, so that another scheduler need not wait for it to run out."""
    return Step("resign", [keys.leader], [token])


def lease(
    keys: ModelKeys,
    token: int,
    batch_id: str,
    worker_id: str,
    slots: int,
    entries: Sequence[Entry],
    posting: Posting | None = None,
) -> Step:
    """Puts entries under a lease for a worker with so many slots, and posts the message that tells the worker.

    Read its reply with `leased_count`.
    """
    batch = [
        keys.leader,
        keys.leases,
        keys.claims,
        keys.batch(batch_id),
        keys.counters,
        keys.held,
        *keys.lanes,
        keys.queued,
    ]
    queue, message = ([posting.queue_key], posting.message) if posting else ([], b"")
    return Step(
        "lease",
        [*batch, *queue],
        [token, batch_id, worker_id, slots, CLAIM_MS, keys.request_prefix, message, packed(entries)],
    )


def leased_count(reply: Any) -> int | Refusal:
    """What `lease` replied: how many of the entries are in the batch now, or why there is none."""
    if reply == b"fenced":
        return Refusal.FENCED
    if reply == b"full":
        return Refusal.FULL
    states: list[int] = reply
    return sum(states)


def claim(keys: ModelKeys, batch_id: str, worker_id: str) -> Step:
    """Begins a micro-batch that was sent to a worker; read its reply with `claimed_batch`."""
    return Step(
        "claim",
        [keys.leases, keys.batch(batch_id), keys.claims, keys.counters, keys.held, *keys.lanes, keys.queued],
        [batch_id, worker_id, LEASE_MS, keys.request_prefix, keys.scheduler_channel],
    )


def claimed_batch(batch_id: str, reply: Any) -> MicroBatch | None:
    """What `claim` replied: the micro-batch, or None where there is nothing (left) for this worker to do."""
    if not reply:
        return None
    items = (LeasedItem(Entry(lane, entry_id.decode()), Item.decode(item)) for lane, entry_id, item in reply)
    return MicroBatch(batch_id, tuple(items))


def renew(keys: ModelKeys, batch_id: str, worker_id: str) -> Step:
    """Keeps a lease for another `LEASE_MS`; its reply is 0 when it was lost before."""
    return Step("renew", [keys.leases, keys.batch(batch_id)], [batch_id, worker_id, LEASE_MS])


def commit(
    keys: ModelKeys, batch_id: str, answers: Sequence[tuple[LeasedItem, Result]], sample: Sample | None = None
) -> Step:
    """Writes results and ends the lease; its reply is how many results were not there before.

    Args:
        sample: what the batch took, for the leader to learn from.
    """
    measured = f"{sample.tokens} {sample.squares} {sample.seconds:.6f}" if sample else ""
    rows = [
        (
            *leased.entry,
            leased.item.request_id,
            leased.item.index,
            leased.item.tokens,
            result.encode(),
            leased.item.tenant,
        )
        for leased, result in answers
    ]
    return Step(
        "commit",
        [keys.leases, keys.batch(batch_id), keys.claims, keys.counters, keys.held, *keys.lanes, keys.queued],
        [
            batch_id,
            RESULT_TTL_MS,
            keys.request_prefix,
            keys.result_prefix,
            keys.scheduler_channel,
            packed(rows),
            measured,
        ],
    )


def release(keys: ModelKeys, batch_id: str, reason: str, only_expired: bool = False) -> Step:
    """Ends a lease without results; its reply is (items that went back, items given up), or None."""
    return Step(
        "release",
        [
            keys.leases,
            keys.batch(batch_id),
            keys.claims,
            keys.counters,
            keys.held,
            keys.dead_letters,
            *keys.lanes,
            keys.queued,
        ],
        [
            batch_id,
            reason,
            ATTEMPTS_ALLOWED,
            RESULT_TTL_MS,
            keys.request_prefix,
            keys.result_prefix,
            keys.scheduler_channel,
            int(only_expired),
            DEAD_LETTERS_KEPT,
        ],
    )


def heartbeat(keys: ModelKeys, worker_id: str, fields: dict[str, Argument]) -> Step:
    """Says that a worker lives; its reply is how many micro-batches it holds, those on their way included."""
    pairs = [part for pair in fields.items() for part in pair]
    return Step(
        "heartbeat",
        [keys.workers, keys.worker(worker_id), keys.held],
        [worker_id, WORKER_TTL_MS, keys.scheduler_channel, *pairs],
    )
