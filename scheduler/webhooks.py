"""Webhooks on their way from the step that hands them in to the process that delivers them.

They are leased like micro-batches are: a process that dies while it delivers one leaves it to another, under the same
id. So a receiver may see one twice, and none is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgpack

from scheduler.keys import JOBS, WEBHOOKS
from scheduler.lua import Argument, Step
from scheduler.settings import WEBHOOK_KEPT_MS, WEBHOOK_LEASE_MS, WEBHOOK_PROVEN_MS


@dataclass(frozen=True, slots=True)
class Webhook:
    """News of an end, for one receiver.

    Attributes:
        webhook_id: the same at every attempt, so that receivers can tell a second one (`msg_...`).
        url: where it is sent.
        secrets: `whsec_...` with which it is signed; none: the server's own.
        payload: the JSON that is sent, bytes.
    """

    webhook_id: str
    url: str
    secrets: Sequence[str]
    payload: bytes

    def encode(self) -> bytes:
        """As the steps of jobs and batches take it (`lua/outbox.lua`)."""
        # Redis' own msgpack knows strings only, and takes them for the bytes they are.
        fields = [self.webhook_id, self.url, list(self.secrets), self.payload]
        packed: bytes = msgpack.packb(fields, use_bin_type=False)
        return packed


class End(StrEnum):
    """How a webhook ends."""

    DELIVERED = "delivered"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class ClaimedWebhook:
    """A webhook that this process is to deliver, until its lease runs out.

    Attributes:
        claim: which of its claims this is; what a late one reports is not taken.
        receiver: scheme, host and port of its URL.
        attempts: how many have failed.
        created_ms: Unix ms when it was handed in.
        unproven: whether the receiver is new, or was not reached at the last attempt.
    """

    webhook: Webhook
    claim: int
    receiver: str
    attempts: int
    created_ms: int
    unproven: bool


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim brought.

    Attributes:
        wait_seconds: until the next one is due that is not yet; None when there is none.
        given_up: how many of receivers that are not reached were found too old.
    """

    webhooks: tuple[ClaimedWebhook, ...]
    wait_seconds: float | None
    given_up: int


@dataclass(frozen=True, slots=True)
class Places:
    """How many webhooks a process may take now.

    Attributes:
        free: in all.
        free_for_unproven: of receivers that are new, or were not reached at the last attempt.
        per_receiver: at once, those that the process has included.
        held: receiver -> how many the process has.
    """

    free: int
    free_for_unproven: int
    per_receiver: int
    held: Mapping[str, int]


def claim(places: Places, oldest_ms: int) -> Step:
    """Takes webhooks that are due; read its reply with `claimed`.

    Args:
        oldest_ms: age at which a webhook to a receiver that is not reached is given up.
    """
    held = [value for pair in places.held.items() for value in pair]
    limits = [places.free, places.free_for_unproven, places.per_receiver, WEBHOOK_LEASE_MS, oldest_ms, WEBHOOK_KEPT_MS]
    return Step("claim_webhooks", [WEBHOOKS], [JOBS, *limits, *held], shared=("prelude", "outbox"))


def claimed(reply: Any) -> Claims:
    """What `claim` replied."""
    webhooks, wait_ms, given_up = reply
    return Claims(
        tuple(_claimed_webhook(*each) for each in webhooks), None if wait_ms < 0 else wait_ms / 1000, given_up
    )


def _claimed_webhook(
    webhook_id: bytes,
    claim_number: int,
    receiver: bytes,
    url: bytes,
    secrets: bytes,
    payload: bytes,
    attempts: int,
    created_ms: int,
    unproven: int,
) -> ClaimedWebhook:
    webhook = Webhook(webhook_id.decode(), url.decode(), tuple(msgpack.unpackb(secrets)), payload)
    return ClaimedWebhook(webhook, claim_number, receiver.decode(), attempts, created_ms, bool(unproven))


@dataclass(frozen=True, slots=True)
class Rest:
    """For how long a receiver that was not reached is left alone, with all that is for it.

    Attributes:
        first: seconds after the first attempt; after each further one in a row, twice as many.
        longest: seconds, at most.
    """

    first: float
    longest: float


def settle(taken: ClaimedWebhook, end: End | None, retry_seconds: float, answered: bool | None, rest: Rest) -> Step:
    """Writes down what became of an attempt; its reply is 0 when it came too late to be taken.

    Args:
        end: how the webhook ended; None: it is tried again.
        retry_seconds: until then.
        answered: whether the receiver did, whatever it said; None: it was not asked.
        rest: of the receiver, if it did not.
    """
    about: list[Argument] = [JOBS, taken.webhook.webhook_id, taken.receiver, taken.claim]
    became: list[Argument] = [end or "", round(retry_seconds * 1000)]
    receiver: list[Argument] = ["" if answered is None else int(answered)]
    times = [round(rest.first * 1000), round(rest.longest * 1000), WEBHOOK_PROVEN_MS, WEBHOOK_KEPT_MS]
    return Step("settle_webhook", [WEBHOOKS], [*about, *became, *receiver, *times], shared=("prelude", "outbox"))
