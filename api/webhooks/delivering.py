"""The service that delivers webhooks: takes those that are due, sends each, and writes down what became of it."""

import asyncio
import logging
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import httpcore
from fastapi import FastAPI
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.addresses import Reachable
from api.public_network import PublicNetwork, public_connections
from api.state import State
from api.webhooks.attempting import ATTEMPT_SECONDS, Attempted, Outcome, attempt
from api.webhooks.retrying import Schedule
from scheduler.connection import BLOCK_MS, end_if_cancelled, is_passing, persist
from scheduler.errors import QueueUnavailableError
from scheduler.keys import NEW_WEBHOOK_CHANNEL
from scheduler.webhooks import ClaimedWebhook, End, Places, claim, claimed, settle

log = logging.getLogger(__name__)

DELIVERIES = Counter(
    "millpond_webhook_deliveries_total",
    "Attempts to deliver webhooks by outcome: delivered; gone, forbidden or given_up, which end it; retried.",
    ["outcome"],
)

LOOK_SECONDS = 1.0
"""How often to look for what is due without being told: an hour that comes tells nobody, and news may get lost."""

SETTLE_SECONDS = 30.0
"""For which what became of an attempt is kept while Redis is away; after that the webhook is sent again."""

_ENDS = {Outcome.DELIVERED: End.DELIVERED, Outcome.GONE: End.GONE, Outcome.FORBIDDEN: End.FORBIDDEN}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a process delivers at once, and how long it tries.

    Attributes:
        attempts: at once, in all.
        per_receiver: of them to one host and port.
        unproven: of them to receivers that are new, or were not reached at the last attempt.
        attempt_seconds: for one.
        stop_seconds: for those that run when the process stops; what does not end by then is sent again elsewhere.
    """

    attempts: int = 64
    per_receiver: int = 4
    unproven: int = 24
    attempt_seconds: float = ATTEMPT_SECONDS
    stop_seconds: float = 5.0
    schedule: Schedule = field(default_factory=Schedule)


async def deliver_webhooks(app: FastAPI, stopping: asyncio.Event) -> None:
    """Delivers until `stopping` is set."""
    state = cast("State", app.state.millpond)
    options = state.options
    network = PublicNetwork(Reachable.parse(options.webhook_allow), "--webhook-allow")
    secrets = [secret.get_secret_value() for secret in options.webhook_secret]
    await Delivering(state.redis, network, secrets).run(stopping)


class Delivering:
    """Delivers webhooks for as long as it runs.

    Args:
        network: through which receivers are reached.
        secrets: with which webhooks are signed whose targets have none.
    """

    def __init__(
        self, redis: Redis, network: PublicNetwork, secrets: Sequence[str], limits: Limits | None = None
    ) -> None:
        self._redis = redis
        self._network = network
        self._secrets = secrets
        self._limits = limits or Limits()
        self._running: dict[asyncio.Task[None], ClaimedWebhook] = {}
        self._look = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Delivers until `stopping` is set; then ends what runs, within seconds."""
        watching = [asyncio.create_task(self._listen()), asyncio.create_task(self._stop(stopping))]
        async with public_connections(self._network, self._limits.attempts) as connections:
            try:
                while not stopping.is_set():
                    self._look.clear()
                    seconds = await self._take(connections)
                    await _first_of(self._look, seconds)
            finally:
                for each in watching:
                    each.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
                await self._end_attempts()

    async def _stop(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._look.set()

    async def _listen(self) -> None:
        """Hears of webhooks that were just handed in."""
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(NEW_WEBHOOK_CHANNEL)
                    while True:
                        end_if_cancelled()
                        message = await subscription.get_message(
                            ignore_subscribe_messages=True, timeout=BLOCK_MS / 1000
                        )
                        if message is not None:
                            self._look.set()
            except (RedisError, OSError) as error:
                end_if_cancelled()
                if not is_passing(error):
                    raise
                await asyncio.sleep(LOOK_SECONDS)

    async def _take(self, connections: httpcore.AsyncConnectionPool) -> float:
        """Begins with what is due and has room; the seconds until it is time to look again."""
        places = self._places()
        if not places.free:
            return LOOK_SECONDS
        try:
            found = claimed(await claim(places, round(self._limits.schedule.oldest * 1000)).run(self._redis))
        except (RedisError, OSError) as error:
            end_if_cancelled()
            if not is_passing(error):
                raise
            log.warning("webhooks wait for redis: %s", error)
            return LOOK_SECONDS
        if found.given_up:
            log.warning("gave up %d webhooks that are too old to receivers that are not reached", found.given_up)
            DELIVERIES.labels(End.GIVEN_UP).inc(found.given_up)
        for each in found.webhooks:
            task = asyncio.create_task(self._deliver(connections, each))
            self._running[task] = each
            task.add_done_callback(self._ended)
        return LOOK_SECONDS if found.wait_seconds is None else min(found.wait_seconds, LOOK_SECONDS)

    def _places(self) -> Places:
        limits, running = self._limits, self._running.values()
        free = limits.attempts - len(running)
        unproven = limits.unproven - sum(each.unproven for each in running)
        held = Tally(each.receiver for each in running)
        return Places(free, max(0, min(free, unproven)), limits.per_receiver, held)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        self._look.set()

    async def _deliver(self, connections: httpcore.AsyncConnectionPool, taken: ClaimedWebhook) -> None:
        try:
            attempted = await attempt(connections, taken.webhook, self._secrets, self._limits.attempt_seconds)
        except Exception:
            # One that nobody foresaw must not end the process again and again.
            log.exception("webhook %s to %s failed", taken.webhook.webhook_id, taken.receiver)
            attempted = Attempted(Outcome.UNREACHED, "Millpond failed")
        failed = taken.attempts + 1
        end = _ENDS.get(attempted.outcome)
        pause = None if end else self._limits.schedule.pause(failed, attempted.wished)
        if end is None and pause is None:
            end = End.GIVEN_UP
        _tell(taken, attempted, end, pause)
        DELIVERIES.labels(end or "retried").inc()
        step = settle(taken, end, pause or 0.0, _answered(attempted.outcome), self._limits.schedule.rest)
        try:
            await persist(lambda: step.run(self._redis), SETTLE_SECONDS, "take what became of a webhook")
        except QueueUnavailableError as error:
            log.warning("webhook %s is sent again: %s", taken.webhook.webhook_id, error)

    async def _end_attempts(self) -> None:
        if not self._running:
            return
        _, left = await asyncio.wait(self._running, timeout=self._limits.stop_seconds)
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _answered(outcome: Outcome) -> bool | None:
    """Whether the receiver answered; None: it was not asked."""
    if outcome in (Outcome.FORBIDDEN, Outcome.UNSIGNED):
        return None
    return outcome is not Outcome.UNREACHED


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    """Returns when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _tell(taken: ClaimedWebhook, attempted: Attempted, end: End | None, pause: float | None) -> None:
    """One line in the log. Of the URL only the host: its path may be the receiver's secret."""
    what = f"webhook {taken.webhook.webhook_id} to {taken.receiver}"
    if end is End.DELIVERED:
        log.debug("%s %s", what, attempted.reason)
    elif end is None:
        log.info("%s: %s; tried again in %.0f s", what, attempted.reason, pause)
    else:
        log.warning("%s: %s; %s after %d attempts", what, attempted.reason, end, taken.attempts + 1)
