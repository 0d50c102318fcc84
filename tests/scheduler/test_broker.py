"""The message that a lease posts is the one that Celery would send."""

import json
from typing import Any

from redis import Redis

from scheduler import leases
from scheduler.broker import CeleryBroker
from scheduler.keys import CELERY_KEY_PREFIX, celery_queue
from tests.scheduler.conftest import Bench

# Random, or the name of the process: each message has others.
OWN = {"id", "root_id", "correlation_id", "delivery_tag", "origin", "reply_to"}


def messages(redis: Redis) -> list[Any]:
    return [json.loads(each) for each in redis.lrange(CELERY_KEY_PREFIX + celery_queue("w1"), 0, -1)]


def common(message: dict[str, Any]) -> dict[str, Any]:
    """The message without what differs between any two."""
    parts = {**message, "headers": {**message["headers"]}, "properties": {**message["properties"]}}
    for name in OWN:
        parts["headers"].pop(name, None)
        parts["properties"].pop(name, None)
    return parts


def test_a_posted_message_is_what_celery_itself_would_send(bench: Bench, clean_redis_url: str) -> None:
    broker = CeleryBroker(clean_redis_url, clean_redis_url)
    broker._publish("w1", "b")
    bench.accept("r")
    posting = broker.posting("w1", "b")
    step = leases.lease(bench.keys, bench.token, "b", "w1", 9, bench.entries(), posting)
    assert leases.leased_count(step.run_blocking(bench.redis)) == 1
    posted, sent = messages(bench.redis)
    # Celery leaves the choice to the task when the caller has none; the task ignores its result either way.
    assert not posted["headers"].pop("ignore_result")
    assert not sent["headers"].pop("ignore_result")
    assert common(posted) == common(sent)
    assert posted["headers"].keys() == sent["headers"].keys()
    assert posted["properties"].keys() == sent["properties"].keys()


def test_a_lease_that_is_refused_posts_nothing(bench: Bench, clean_redis_url: str) -> None:
    broker = CeleryBroker(clean_redis_url, clean_redis_url)
    bench.accept("r")
    step = leases.lease(bench.keys, bench.token, "b", "w1", 0, bench.entries(), broker.posting("w1", "b"))
    assert leases.leased_count(step.run_blocking(bench.redis)) is leases.Refusal.FULL
    bench.redis.delete(bench.keys.request("r"))
    step = leases.lease(bench.keys, bench.token, "b", "w1", 9, bench.entries(), broker.posting("w1", "b"))
    assert leases.leased_count(step.run_blocking(bench.redis)) == 0
    assert messages(bench.redis) == []


def test_a_broker_elsewhere_is_sent_to_and_not_posted(clean_redis_url: str) -> None:
    assert CeleryBroker("redis://another:6379/0", clean_redis_url).posting("w1", "b") is None
    kombu_form = clean_redis_url.replace("unix://", "redis+socket://").replace("db=", "virtual_host=")
    assert CeleryBroker(kombu_form, clean_redis_url).posting("w1", "b") is not None
