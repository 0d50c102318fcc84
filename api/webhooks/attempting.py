"""One attempt to deliver a webhook: what is sent, and what the receiver's answer means."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version

import httpcore

from api.public_network import ForbiddenAddressError
from api.webhooks.signing import signed_headers
from scheduler.webhooks import Webhook

USER_AGENT = f"Millpond/{version('millpond')}"

CONNECT_SECONDS = 5.0
ATTEMPT_SECONDS = 15.0
"""For all of an attempt, the look-up of the name included."""

MOST_REPLY_BYTES = 4_096
REPLY_SECONDS = 1.0
"""A reply's body tells nothing: so much of it is read, for so long, that the connection can be used again."""


class Outcome(StrEnum):
    """What became of an attempt."""

    DELIVERED = "delivered"
    GONE = "gone"
    """The receiver said that it wants no more: 410."""
    REFUSED = "refused"
    """It answered otherwise."""
    UNREACHED = "unreached"
    """It did not answer in time."""
    FORBIDDEN = "forbidden"
    """Its address is none that may be connected to."""
    UNSIGNED = "unsigned"
    """There is no secret to sign with."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """What became of an attempt.

    Attributes:
        reason: for the log.
        wished: seconds after which the receiver wants to be asked again, if it says so.
    """

    outcome: Outcome
    reason: str
    wished: float | None = None


async def attempt(
    connections: httpcore.AsyncConnectionPool,
    webhook: Webhook,
    own_secrets: Sequence[str],
    seconds: float = ATTEMPT_SECONDS,
) -> Attempted:
    """Sends a webhook once, signed by its target's secrets, else by the server's own.

    Args:
        seconds: for all of it.
    """
    secrets = webhook.secrets or own_secrets
    if not secrets:
        return Attempted(Outcome.UNSIGNED, "there is no secret to sign it with: set --webhook-secret")
    try:
        headers = signed_headers(webhook.webhook_id, int(time.time()), webhook.payload, secrets)
    except ValueError as error:
        return Attempted(Outcome.UNSIGNED, str(error))
    try:
        return await _post(connections, webhook, headers, seconds)
    except ForbiddenAddressError as error:
        return Attempted(Outcome.FORBIDDEN, str(error))
    except (TimeoutError, httpcore.TimeoutException) as error:
        return Attempted(Outcome.UNREACHED, str(error) or f"no answer within {seconds:g} s")
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        return Attempted(Outcome.UNREACHED, f"{type(error).__name__}: {error}")


async def _post(
    connections: httpcore.AsyncConnectionPool, webhook: Webhook, headers: dict[str, str], seconds: float
) -> Attempted:
    sent = {**headers, "content-type": "application/json", "user-agent": USER_AGENT, "accept": "*/*"}
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(seconds):
            posting = connections.stream(
                "POST",
                webhook.url,
                headers=list(sent.items()),
                content=webhook.payload,
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            )
            response = await stack.enter_async_context(posting)
        # From here on the answer counts, whatever becomes of the rest of it.
        with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
            async with asyncio.timeout(REPLY_SECONDS):
                await _read_some(response)
    return read_answer(response.status, _retry_after(response.headers))


async def _read_some(response: httpcore.Response) -> None:
    read = 0
    async for part in response.aiter_stream():
        read += len(part)
        if read > MOST_REPLY_BYTES:
            return


def read_answer(status: int, retry_after: str | None) -> Attempted:
    """What an answer means.

    Args:
        retry_after: the header, seconds or a date.
    """
    if 200 <= status < 300:
        return Attempted(Outcome.DELIVERED, f"answered {status}")
    if status == 410:
        return Attempted(Outcome.GONE, "answered 410: it wants no more of this")
    if 300 <= status < 400:
        return Attempted(Outcome.REFUSED, f"answered {status}; redirects are not followed")
    return Attempted(Outcome.REFUSED, f"answered {status}", seconds_wished(retry_after))


def seconds_wished(retry_after: str | None) -> float | None:
    """The seconds in a Retry-After header, of either form; None for none, or one that says nothing."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    return next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), None)
