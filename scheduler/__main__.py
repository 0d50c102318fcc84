"""The scheduler process: a dispatcher for every model that is served on this Redis."""

import asyncio
import contextlib
import logging
import signal

import uvloop
from redis.asyncio import Redis
from redis.exceptions import RedisError

from scheduler.broker import CeleryBroker
from scheduler.connection import BLOCK_MS, connect_async, end_if_cancelled, is_passing, persist
from scheduler.dispatcher import Broker, Dispatcher
from scheduler.keys import MODELS, NEW_MODEL_CHANNEL
from scheduler.logs import set_up_logging
from scheduler.readiness import announce_ready
from scheduler.settings import SchedulerSettings

log = logging.getLogger("scheduler")


async def dispatch_all_models(redis: Redis, broker: Broker, target_ms: int) -> None:
    """Runs a dispatcher for each model that is known, and for each that becomes known."""
    models: set[str] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                async with redis.pubsub() as subscription:
                    await subscription.subscribe(NEW_MODEL_CHANNEL)
                    while True:
                        known = {member.decode() for member in await redis.smembers(MODELS)}
                        for model in known - models:
                            models.add(model)
                            group.create_task(Dispatcher(redis, model, broker, target_ms).run())
                        await subscription.get_message(ignore_subscribe_messages=True, timeout=BLOCK_MS / 1000)
            except (RedisError, OSError) as error:
                end_if_cancelled()
                if not is_passing(error):
                    raise
                log.warning("redis is away: %s", error)
                await asyncio.sleep(0.5)


async def main() -> None:
    """Dispatches until SIGTERM or SIGINT."""
    settings = SchedulerSettings.from_environment()
    set_up_logging("scheduler", settings.log_format)
    redis = connect_async(settings.redis_url)
    await persist(lambda: redis.ping(), 30.0, "answer")
    broker = CeleryBroker(settings.broker_url, settings.redis_url)
    dispatching = asyncio.ensure_future(dispatch_all_models(redis, broker, settings.interactive_target_ms))
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, dispatching.cancel)
    announce_ready("dispatching")
    with contextlib.suppress(asyncio.CancelledError):
        await dispatching
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
