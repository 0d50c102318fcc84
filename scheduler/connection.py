"""Connections to Redis, and the check that a server can keep the queue's promises."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from scheduler.errors import QueueUnavailableError, UnsupportedServerError

log = logging.getLogger(__name__)

OLDEST_VERSION = (6, 2)

BLOCK_MS = 5_000
"""How long a blocking read waits before it asks again."""

_TIMEOUTS: dict[str, Any] = {
    "socket_connect_timeout": 3.0,
    # Longer than the longest blocking read: a server that says nothing for so long is gone.
    "socket_timeout": BLOCK_MS / 1000 + 5.0,
    "health_check_interval": 0,
    # The replies' shapes differ between RESP 2 and 3, and clients differ in their default.
    "protocol": 2,
}

_PASSING = ("LOADING", "OOM", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY")
"""How replies of a server begin that waiting may cure."""

T = TypeVar("T")


def connect(url: str) -> Redis:
    """A client for threads. Nothing is repeated behind the caller's back: each caller knows what may be."""
    return Redis.from_url(_without_kombu_words(url), retry=Retry(NoBackoff(), 0), **_TIMEOUTS)


def connect_async(url: str) -> AsyncRedis:
    """A client for an event loop. Nothing is repeated behind the caller's back."""
    client: AsyncRedis = AsyncRedis.from_url(_without_kombu_words(url), retry=AsyncRetry(NoBackoff(), 0), **_TIMEOUTS)
    return client


def _without_kombu_words(url: str) -> str:
    """kombu calls a Unix socket `redis+socket://...?virtual_host=N`, redis-py `unix://...?db=N`; both are taken."""
    if url.startswith("redis+socket://"):
        return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=")
    return url


def check_server(client: Redis) -> None:
    """Raises when the server is too old, may evict keys, or cannot be reached.

    Raises:
        UnsupportedServerError: it answers, but cannot keep the queue's promises.
        QueueUnavailableError: it does not answer.
    """
    try:
        info: dict[str, Any] = {**client.info("server"), **client.info("memory")}
    except AuthenticationError as error:
        raise QueueUnavailableError(
            f"Redis refuses the password: {error}. Put the right one into --redis-url."
        ) from error
    except (RedisError, OSError) as error:
        raise QueueUnavailableError(f"Redis cannot be reached: {error}. Start it, or correct --redis-url.") from error
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise UnsupportedServerError(f"Redis {version} is too old: Millpond needs 6.2 or newer. Upgrade the server.")
    policy = info.get("maxmemory_policy", "noeviction")
    if int(info.get("maxmemory", 0)) > 0 and policy != "noeviction":
        raise UnsupportedServerError(
            f"Redis would evict queued work (maxmemory-policy is {policy}): set maxmemory-policy to noeviction."
        )


def is_passing(error: Exception) -> bool:
    """Whether an error of Redis is one that waiting may cure: the server is away, loading or full."""
    if isinstance(error, AuthenticationError):
        return False
    if isinstance(error, ResponseError):
        # Of a step that found no memory, Redis 6 says first that a script failed, and only then why.
        return "-OOM " in str(error) or str(error).startswith(_PASSING)
    return isinstance(error, (RedisError, OSError))


def end_if_cancelled() -> None:
    """Raises CancelledError where this task was cancelled and went on.

    A connection that is closed at the moment of the cancellation raises its own error in place of it; who catches that
    and tries again would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def persist(call: Callable[[], Awaitable[T]], seconds: float, what: str) -> T:
    """The reply of `call`, tried again with growing pauses while Redis is away.

    Raises:
        QueueUnavailableError: after `seconds`, or at once on an error that waiting does not cure.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + seconds, 0.02
    while True:
        try:
            return await call()
        except (RedisError, OSError) as error:
            end_if_cancelled()
            if not is_passing(error) or loop.time() + pause > deadline:
                raise QueueUnavailableError(f"The queue did not {what}: {error}") from error
            log.info("waiting for redis to %s: %s", what, error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 1.0)
