"""Holds callers to the limits of their keys, and tells them where they stand as OpenAI does."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.callers import Caller
from api.errors import RefusedError
from scheduler.connection import persist
from scheduler.errors import QueueUnavailableError
from scheduler.limits import Limits, Verdict, admit, leave, stay
from scheduler.results import ENQUEUE_SECONDS
from scheduler.settings import CALL_RENEWAL_SECONDS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was let in.

    Attributes:
        headers: where its key stands with its limits, for the reply; empty for a key without limits.
    """

    headers: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def admitted(redis: Redis, caller: Caller, tokens: int, seconds: float) -> AsyncIterator[Admission]:
    """Lets a call of so many tokens run inside, when its key's limits allow it.

    For a key without limits nothing is asked. The tokens stay counted whatever becomes of the call; its place among the
    calls that run is given back at the end.

    Args:
        seconds: for Redis to answer, as it counts.

    Raises:
        RefusedError: 429 when a limit is reached, 400 when the call alone is over it and could never pass.
        QueueUnavailableError: Redis did not answer in time: nobody is let in uncounted.
    """
    if not caller.is_limited:
        yield Admission()
        return
    limits = Limits(caller.name, caller.tokens_per_minute, caller.concurrency)
    check_within_limits(caller, tokens)
    call_id, began = uuid.uuid4().hex, time.monotonic()
    asking = asyncio.ensure_future(_verdict(redis, limits, call_id, tokens, min(seconds, ENQUEUE_SECONDS)))
    try:
        verdict = await asyncio.shield(asking)
        if not verdict.admitted:
            raise _refused(limits, verdict, tokens)
        renewing = asyncio.create_task(_renew(redis, limits, call_id))
        try:
            yield Admission(_headers(limits, verdict))
        finally:
            renewing.cancel()
    finally:
        await _leave(redis, limits, call_id, began, asking)


async def _verdict(redis: Redis, limits: Limits, call_id: str, tokens: int, seconds: float) -> Verdict:
    async def ask() -> Verdict:
        return Verdict.of(await admit(limits, call_id, tokens).run(redis))

    try:
        async with asyncio.timeout(seconds):
            return await persist(ask, seconds, "count the call")
    except TimeoutError as error:
        raise QueueUnavailableError(f"The queue did not count the call within {seconds:g} seconds.") from error


async def _renew(redis: Redis, limits: Limits, call_id: str) -> None:
    while limits.concurrency is not None:
        await asyncio.sleep(CALL_RENEWAL_SECONDS)
        try:
            await stay(limits, call_id).run(redis)
        except (RedisError, OSError) as error:
            log.info("a call of %s could not be renewed: %s", limits.tenant, error)


async def _leave(redis: Redis, limits: Limits, call_id: str, began: float, asking: "asyncio.Future[Verdict]") -> None:
    """Gives a call's place back before its reply goes out, so that the caller's next call finds it free."""
    # A caller that left while the question was on its way: an answer that comes after the end would hold a place.
    await asyncio.wait((asking,))
    if limits.concurrency is None or asking.cancelled() or asking.exception() or not asking.result().admitted:
        return
    try:
        await leave(limits, call_id, math.ceil((time.monotonic() - began) * 1000)).run(redis)
    except (RedisError, OSError) as error:
        log.info("a call of %s is left to run out by itself: %s", limits.tenant, error)


def check_within_limits(caller: Caller, tokens: int) -> None:
    """Raises a 400 when a call of so many tokens is over its key's limit alone, and could never pass."""
    allowed = caller.tokens_per_minute
    if allowed is not None and tokens > allowed:
        raise RefusedError(
            "too_large",
            400,
            f"This call has {tokens} tokens, and the key {caller.name!r} may send {allowed} a minute, so it can "
            "never pass: send fewer inputs a call, or ask for a higher tokens_per_minute.",
            code="request_over_rate_limit",
        )


def _refused(limits: Limits, verdict: Verdict, tokens: int) -> RefusedError:
    wait_ms = verdict.wait_ms(limits)
    reasons = []
    if verdict.over_tokens:
        reasons.append(
            f"{limits.tokens_per_minute} tokens a minute (tokens_per_minute), of which {verdict.tokens_left} are left; "
            f"this call has {tokens}"
        )
    if verdict.over_calls:
        reasons.append(f"{limits.concurrency} calls at once (concurrency), and {verdict.running} run")
    return RefusedError(
        "tokens_per_minute" if verdict.over_tokens else "concurrency",
        429,
        f"The key {limits.tenant!r} may use {'; and '.join(reasons)}. Try again in {duration(wait_ms)}.",
        code="rate_limit_exceeded",
        headers={
            **_headers(limits, verdict),
            "Retry-After": str(math.ceil(wait_ms / 1000)),
            "retry-after-ms": str(wait_ms),
        },
    )


def _headers(limits: Limits, verdict: Verdict) -> dict[str, str]:
    """OpenAI's headers. Its "requests" are the calls that may run at once, and free when those that run have ended."""
    headers: dict[str, str] = {}
    if limits.concurrency is not None:
        headers |= {
            "x-ratelimit-limit-requests": str(limits.concurrency),
            "x-ratelimit-remaining-requests": str(max(0, limits.concurrency - verdict.running)),
            "x-ratelimit-reset-requests": duration(verdict.call_ms if verdict.running else 0),
        }
    if limits.tokens_per_minute is not None:
        headers |= {
            "x-ratelimit-limit-tokens": str(limits.tokens_per_minute),
            "x-ratelimit-remaining-tokens": str(verdict.tokens_left),
            "x-ratelimit-reset-tokens": duration(verdict.tokens_reset_ms),
        }
    return headers


def duration(milliseconds: int) -> str:
    """A time as OpenAI writes it: `120ms`, `1s`, `6m0s`, `1h0m5s`; from a second on rounded up to seconds."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, seconds = divmod(math.ceil(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
