"""Webhooks reach their receivers once, signed, whatever these do, and nobody waits for another's receiver."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from standardwebhooks import Webhook as Verifier

from api.addresses import Reachable
from api.public_network import PublicNetwork
from api.webhooks.delivering import Delivering, Limits
from api.webhooks.events import webhook_about
from api.webhooks.retrying import Schedule
from api.webhooks.target import Target
from scheduler import keys
from scheduler.connection import connect_async
from scheduler.webhooks import Rest, Webhook
from tests.api.webhooks.receiving import Delivery, Receiver, answering, post, until
from tests.server import free_ports

OLD, NEW = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))

QUICK = Schedule(pauses=(0.05,) * 40, longest_wish=0.2, rest=Rest(0.02, 0.1))


def news(receiver: Receiver, subject: str = "batch_1", secrets: Sequence[str] = ()) -> Webhook:
    return webhook_about(Target(receiver.url, tuple(secrets)), "batch.completed", subject, 1_700_000_000)


@asynccontextmanager
async def delivering(
    url: str, *allowed: str, limits: Limits | None = None, secrets: Sequence[str] = (OLD,), **network: Any
) -> AsyncIterator[Redis]:
    """The service, running."""
    redis = connect_async(url)
    stopping = asyncio.Event()
    way = PublicNetwork(Reachable.parse(allowed or ["127.0.0.1"]), "--webhook-allow", **network)
    service = asyncio.create_task(Delivering(redis, way, secrets, limits or Limits(schedule=QUICK)).run(stopping))
    try:
        yield redis
    finally:
        stopping.set()
        await service
        await redis.aclose()


async def ended(redis: Redis, webhook: Webhook) -> str:
    """How a webhook ended, waited for."""
    async with asyncio.timeout(20):
        while (outcome := await redis.hget(keys.webhook(webhook.webhook_id), "outcome")) is None:
            await asyncio.sleep(0.01)
    return str(outcome.decode())


async def nothing_is_left(redis: Redis) -> bool:
    left = (keys.WEBHOOKS, keys.WEBHOOK_RECEIVERS, keys.WEBHOOK_UNPROVEN, keys.WEBHOOK_FAILURES)
    return await redis.exists(*left) == 0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 50))


def verified(delivery: Delivery, secret: str) -> Any:
    return Verifier(secret).verify(delivery.body, delivery.headers)


def test_a_webhook_is_delivered_once_and_signed_by_every_secret_of_the_server(clean_redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            Receiver(lambda number: answering(204)).running() as receiver,
            delivering(clean_redis_url, secrets=(OLD, NEW)) as redis,
        ):
            webhook = news(receiver)
            await post(redis, webhook, webhook)
            assert await ended(redis, webhook) == "delivered"
            await post(redis, webhook)
            assert await nothing_is_left(redis)
            (got,) = receiver.got
            for secret in (OLD, NEW):
                event = verified(got, secret)
            assert event["type"] == "batch.completed"
            assert event["data"] == {"id": "batch_1"}
            assert got.headers["content-type"] == "application/json"
            assert got.headers["user-agent"].startswith("Millpond/")
            kept = set(await redis.hkeys(keys.webhook(webhook.webhook_id)))
            assert kept == {b"receiver", b"created", b"attempts", b"claims", b"outcome"}

    run(scenario())


def test_the_secrets_of_a_target_stand_in_place_of_the_servers(clean_redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            Receiver(lambda number: answering(200)).running() as receiver,
            delivering(clean_redis_url, secrets=(OLD,)) as redis,
        ):
            webhook = news(receiver, secrets=[NEW])
            await post(redis, webhook)
            assert await ended(redis, webhook) == "delivered"
            (got,) = receiver.got
            verified(got, NEW)
            with pytest.raises(Exception, match="No matching signature"):
                verified(got, OLD)

    run(scenario())


def test_a_receiver_that_was_down_gets_each_webhook_once_when_it_is_up(clean_redis_url: str) -> None:
    async def scenario() -> None:
        receiver = Receiver(lambda number: answering(200), port=free_ports(1)[0])
        async with delivering(clean_redis_url) as redis:
            webhooks = [news(receiver, f"batch_{number}") for number in range(10)]
            await post(redis, *webhooks)
            async with asyncio.timeout(20):
                while int(await redis.hget(keys.WEBHOOK_FAILURES, f"http://127.0.0.1:{receiver.port}") or 0) < 5:
                    await asyncio.sleep(0.01)
            async with receiver.running():
                assert {await ended(redis, each) for each in webhooks} == {"delivered"}
            assert sorted(got.webhook_id for got in receiver.got) == sorted(each.webhook_id for each in webhooks)
            assert await nothing_is_left(redis)

    run(scenario())


def test_every_attempt_has_the_same_id_and_a_time_of_its_own(clean_redis_url: str) -> None:
    async def scenario() -> None:
        answers = [answering(500), answering(503, "retry-after: 1"), None, answering(200)]
        limits = Limits(schedule=QUICK, attempt_seconds=1.2)
        async with (
            Receiver(lambda number: answers[number]).running() as receiver,
            delivering(clean_redis_url, limits=limits) as redis,
        ):
            webhook = news(receiver)
            await post(redis, webhook)
            assert await ended(redis, webhook) == "delivered"
            assert [got.webhook_id for got in receiver.got] == [webhook.webhook_id] * 4
            assert len({got.body for got in receiver.got}) == 1
            first, last = receiver.got[0], receiver.got[-1]
            assert int(last.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
            for got in receiver.got:
                verified(got, OLD)

    run(scenario())


def test_a_redirect_is_a_failure_and_its_target_is_never_called(clean_redis_url: str) -> None:
    async def scenario() -> None:
        async with Receiver(lambda number: answering(200)).running() as secret_place:
            redirect = answering(307, f"location: {secret_place.url}")
            limits = Limits(schedule=Schedule(pauses=(0.01, 0.01)))
            async with (
                Receiver(lambda number: redirect).running() as receiver,
                delivering(clean_redis_url, limits=limits) as redis,
            ):
                webhook = news(receiver)
                await post(redis, webhook)
                assert await ended(redis, webhook) == "given_up"
                assert (len(receiver.got), len(secret_place.got)) == (3, 0)
                assert await nothing_is_left(redis)

    run(scenario())


def test_gone_ends_it_at_once(clean_redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            Receiver(lambda number: answering(410)).running() as receiver,
            delivering(clean_redis_url) as redis,
        ):
            webhook = news(receiver)
            await post(redis, webhook)
            assert await ended(redis, webhook) == "gone"
            assert len(receiver.got) == 1

    run(scenario())


def test_a_name_that_leads_to_a_private_address_ends_it_at_once_and_the_log_says_why(
    clean_redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def getaddrinfo(host: str, port: int, **kind: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    async def scenario() -> None:
        async with (
            Receiver(lambda number: answering(200)).running() as receiver,
            delivering(clean_redis_url, "127.0.0.2", getaddrinfo=getaddrinfo) as redis,
        ):
            target = Target(f"http://hooks.example.com:{receiver.port}/", ())
            webhook = webhook_about(target, "job.succeeded", "job_1", 1)
            await post(redis, webhook)
            assert await ended(redis, webhook) == "forbidden"
            assert not receiver.got

    run(scenario())
    assert "hooks.example.com (127.0.0.1)" in caplog.text
    assert "--webhook-allow" in caplog.text


def test_dead_and_flooding_receivers_slow_nobody(clean_redis_url: str) -> None:
    flood = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 20_000_000

    async def scenario() -> None:
        async with (
            Receiver(lambda number: None).running() as dead,
            Receiver(lambda number: flood).running() as flooding,
            Receiver(lambda number: answering(200)).running() as good,
        ):
            gone = Receiver(lambda number: None, port=free_ports(1)[0])
            redis = connect_async(clean_redis_url)
            for number in range(100):
                await post(redis, news(dead, f"d{number}"), news(gone, f"g{number}"))
            await post(redis, *(news(flooding, f"f{number}") for number in range(8)))
            webhooks = [news(good, f"n{number}") for number in range(200)]
            await post(redis, *webhooks)
            began = time.monotonic()
            async with delivering(clean_redis_url, limits=Limits(attempt_seconds=30, stop_seconds=0.1)):
                await until(lambda: len(good.got) >= 200)
                assert time.monotonic() - began < 10
                for each in webhooks:
                    assert await ended(redis, each) == "delivered"
                await until(lambda: len(flooding.got) == 8)
                for number in range(8):
                    assert await ended(redis, news(flooding, f"f{number}")) == "delivered"
                assert (dead.open, dead.most_open) == (1, 1)
                assert good.most_open <= 5  # four, and one whose end has not come here yet
            assert await redis.zcard(keys.WEBHOOKS) == 200
            await redis.aclose()

    run(scenario())


def test_a_webhook_whose_process_died_is_delivered_by_another_under_the_same_id(clean_redis_url: str) -> None:
    async def scenario() -> None:
        answers = [None, answering(200)]
        async with Receiver(lambda number: answers[number]).running() as receiver:
            redis = connect_async(clean_redis_url)
            webhook = news(receiver)
            await post(redis, webhook)
            way = PublicNetwork(Reachable.parse(["127.0.0.1"]), "--webhook-allow")
            dying = asyncio.create_task(Delivering(redis, way, [OLD], Limits(stop_seconds=0.1)).run(asyncio.Event()))
            await until(lambda: len(receiver.got) == 1)
            dying.cancel()  # in the middle of the attempt, of which nothing is written down
            await asyncio.gather(dying, return_exceptions=True)
            place = f"http://127.0.0.1:{receiver.port}"
            assert await redis.zscore(keys.webhooks_to(place), webhook.webhook_id) > time.time() * 1000 + 30_000
            await redis.zadd(keys.webhooks_to(place), {webhook.webhook_id: 1})  # the lease runs out
            await redis.zadd(keys.WEBHOOK_UNPROVEN, {place: 1})
            async with delivering(clean_redis_url):
                assert await ended(redis, webhook) == "delivered"
            assert [got.webhook_id for got in receiver.got] == [webhook.webhook_id] * 2
            await redis.aclose()

    run(scenario())


def test_without_a_secret_nothing_is_sent_until_there_is_one(clean_redis_url: str) -> None:
    async def scenario() -> None:
        async with Receiver(lambda number: answering(200)).running() as receiver:
            webhook = news(receiver)
            async with delivering(clean_redis_url, secrets=()) as redis:
                await post(redis, webhook)
                async with asyncio.timeout(20):
                    while int(await redis.hget(keys.webhook(webhook.webhook_id), "attempts")) < 2:
                        await asyncio.sleep(0.01)
            assert not receiver.got
            async with delivering(clean_redis_url) as redis:
                assert await ended(redis, webhook) == "delivered"
            assert json.loads(receiver.got[0].body)["id"].startswith("evt_")

    run(scenario())
