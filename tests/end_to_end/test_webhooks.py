"""A running Millpond delivers webhooks, and a process that is killed in the middle loses none."""

import time

from scheduler import keys
from scheduler.connection import connect_async
from tests.api.webhooks.receiving import Receiver, answering, post, until
from tests.api.webhooks.test_delivering import NEW, OLD, ended, news, nothing_is_left, run, verified
from tests.end_to_end.waiting import metric
from tests.server import Millpond, serving


def test_a_webhook_survives_the_process_that_was_delivering_it() -> None:
    secrets = ["--webhook-secret", NEW, "--webhook-secret", OLD]
    with serving("--job-workers", "1", "--webhook-allow", "127.0.0.1", *secrets) as server:
        run(_killed_in_the_middle(server))
        assert metric(server, "millpond_webhook_deliveries_total", outcome="delivered") == 1
        assert metric(server, "millpond_webhooks_waiting") == 0


async def _killed_in_the_middle(server: Millpond) -> None:
    redis = connect_async(f"unix://{server.data_directory}/redis.sock?db=0")
    answers = [None, answering(200)]
    async with Receiver(lambda number: answers[number]).running() as receiver:
        webhook = news(receiver)
        await post(redis, webhook)
        await until(lambda: len(receiver.got) == 1)
        (process,) = server.role_processes("api.jobs")
        process.kill()
        place = f"http://127.0.0.1:{receiver.port}"
        assert await redis.zscore(keys.webhooks_to(place), webhook.webhook_id) > time.time() * 1000 + 30_000
        await redis.zadd(keys.webhooks_to(place), {webhook.webhook_id: 1})  # a minute passes, and the lease runs out
        await redis.zadd(keys.WEBHOOK_UNPROVEN, {place: 1})
        assert await ended(redis, webhook) == "delivered"
        assert [got.webhook_id for got in receiver.got] == [webhook.webhook_id] * 2
        for secret in (OLD, NEW):
            verified(receiver.got[1], secret)
        assert await nothing_is_left(redis)
    await redis.aclose()
