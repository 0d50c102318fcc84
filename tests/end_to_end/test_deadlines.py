"""A caller whose deadline passes hears so in time, and its items cost nothing afterwards."""

import httpx
import pytest
from redis import Redis

from scheduler.keys import ModelKeys
from tests.conftest import eventually
from tests.server import Millpond, redis_of

KEYS = ModelKeys("tiny-bert")


def counted(redis: Redis, outcome: str) -> int:
    return int(redis.hget(KEYS.counters, f"items_{outcome}") or 0)


def test_items_whose_deadline_passed_are_not_forwarded_and_each_is_counted_once(
    server: Millpond, client: httpx.Client
) -> None:
    outcomes = ("answered", "expired", "abandoned", "unwanted")
    with redis_of(server) as redis:
        before = {outcome: counted(redis, outcome) for outcome in outcomes}
        # Token ids, so that what takes the time is the work and not the tokenising.
        reply = client.post(
            "/v1/embeddings", json={"input": [[2, *[20] * 60, 3]] * 2048}, headers={"Millpond-Deadline-Ms": "250"}
        )
        assert reply.status_code == 504, reply.text
        eventually(lambda: not redis.xlen(KEYS.lanes[0]))
        found = {outcome: counted(redis, outcome) - before[outcome] for outcome in outcomes}
    assert sum(found.values()) == 2048, found
    assert found["expired"] > 0, found
    assert found["abandoned"] == 0, "whoever was first, the dispatcher or the api, it was the deadline"


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "9" * 10, "9" * 5000])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(client: httpx.Client, given: str) -> None:
    reply = client.post("/v1/embeddings", json={"input": "water"}, headers={"Millpond-Deadline-Ms": given})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == "Millpond-Deadline-Ms"
