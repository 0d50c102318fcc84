"""What is counted for a tenant, on a real Redis, by clients that know nothing of each other."""

from collections.abc import Iterator

import pytest
from redis import Redis

from scheduler.connection import connect
from scheduler.keys import ModelKeys, TenantKeys
from scheduler.limits import Limits, Verdict, admit, leave, stay
from scheduler.settings import CALL_LEASE_MS
from tests.conftest import eventually

TOKENS = Limits("t", tokens_per_minute=600)
CALLS = Limits("t", concurrency=2)


@pytest.fixture
def redis(clean_redis_url: str) -> Iterator[Redis]:
    with connect(clean_redis_url) as client:
        yield client


def asked(redis: Redis, limits: Limits, call_id: str, tokens: int = 0, lease_ms: int = CALL_LEASE_MS) -> Verdict:
    return Verdict.of(admit(limits, call_id, tokens, lease_ms).run_blocking(redis))


def set_back(redis: Redis, limits: Limits, milliseconds: int) -> None:
    """Makes it so long since the tenant's tokens were counted."""
    redis.hincrby(TenantKeys(limits.tenant).usage, "at", -milliseconds)


def test_tokens_are_counted_over_processes_until_the_minute_is_full(redis: Redis, clean_redis_url: str) -> None:
    with connect(clean_redis_url) as other:
        first, second = asked(redis, TOKENS, "a", 400), asked(other, TOKENS, "b", 150)
    assert first.admitted
    assert (first.tokens_left, first.tokens_reset_ms) == (200, 40_000)
    assert second.admitted
    assert 50 <= second.tokens_left <= 51
    refused = asked(redis, TOKENS, "c", 100)
    assert (refused.over_tokens, refused.over_calls) == (True, False)
    assert 4_000 < refused.wait_ms(TOKENS) <= 5_000, "50 tokens at 10 a second"
    assert asked(redis, TOKENS, "d", 50).admitted, "a refused call has taken nothing"


def test_a_refused_call_passes_after_the_time_it_was_told(redis: Redis) -> None:
    asked(redis, TOKENS, "a", 600)
    refused = asked(redis, TOKENS, "b", 300)
    set_back(redis, TOKENS, refused.wait_ms(TOKENS) - 2_000)
    assert not asked(redis, TOKENS, "b", 300).admitted
    set_back(redis, TOKENS, 2_000)
    assert asked(redis, TOKENS, "b", 300).admitted


def test_an_idle_hour_saves_nothing_up_and_a_clock_set_back_takes_nothing_away(redis: Redis) -> None:
    asked(redis, TOKENS, "a", 1)
    set_back(redis, TOKENS, 3_600_000)
    assert asked(redis, TOKENS, "b", 600).admitted
    set_back(redis, TOKENS, -3_600_000)
    refused = asked(redis, TOKENS, "c", 60)
    assert 0 < refused.wait_ms(TOKENS) <= 6_000


def test_a_limit_that_was_changed_holds_at_once(redis: Redis) -> None:
    asked(redis, TOKENS, "a", 500)
    assert not asked(redis, Limits("t", tokens_per_minute=100), "b", 1).admitted
    assert asked(redis, Limits("t", tokens_per_minute=6000), "b", 5400).admitted


def test_no_more_calls_run_than_allowed_and_one_that_ends_makes_room(redis: Redis) -> None:
    assert [asked(redis, CALLS, each).running for each in "ab"] == [1, 2]
    refused = asked(redis, CALLS, "c")
    assert (refused.over_calls, refused.running) == (True, 2)
    assert leave(CALLS, "a", 600).run_blocking(redis) == 1
    assert leave(CALLS, "a", 600).run_blocking(redis) == 0
    assert asked(redis, CALLS, "c").admitted


def test_the_wait_for_a_place_is_learned_from_how_long_calls_take(redis: Redis) -> None:
    for each in "ab":
        asked(redis, CALLS, each)
    assert asked(redis, CALLS, "c").wait_ms(CALLS) == 500, "nothing is known yet: a second a call"
    for _ in range(50):
        leave(CALLS, "a", 4_000).run_blocking(redis)
        asked(redis, CALLS, "a")
    assert asked(redis, CALLS, "c").wait_ms(CALLS) == 2_000


def test_a_call_whose_process_died_counts_until_its_lease_runs_out(redis: Redis) -> None:
    asked(redis, CALLS, "a", lease_ms=150)
    asked(redis, CALLS, "b")
    assert not asked(redis, CALLS, "c").admitted
    assert eventually(lambda: asked(redis, CALLS, "c").admitted, 5)
    assert not asked(redis, CALLS, "d").admitted


def test_a_call_that_is_renewed_keeps_its_place_and_one_that_ended_does_not_come_back(redis: Redis) -> None:
    asked(redis, CALLS, "a", lease_ms=200)
    before = redis.zscore(TenantKeys("t").calls, "a")
    assert stay(CALLS, "a").run_blocking(redis) == 1
    after = redis.zscore(TenantKeys("t").calls, "a")
    assert after > before + CALL_LEASE_MS - 1_000
    leave(CALLS, "a", 1).run_blocking(redis)
    assert stay(CALLS, "a").run_blocking(redis) == 0
    assert redis.zcard(TenantKeys("t").calls) == 0


def test_a_call_that_asks_again_for_want_of_an_answer_is_counted_once(redis: Redis) -> None:
    both = Limits("t", tokens_per_minute=600, concurrency=1)
    asked(redis, both, "a", 400)
    again = asked(redis, both, "a", 400)
    assert again.admitted
    assert (again.running, again.tokens_left) == (1, 200)


def test_of_two_reached_limits_the_longer_wait_is_told(redis: Redis) -> None:
    both = Limits("t", tokens_per_minute=600, concurrency=1)
    asked(redis, both, "a", 600)
    refused = asked(redis, both, "b", 300)
    assert refused.over_tokens
    assert refused.over_calls
    assert 29_000 < refused.wait_ms(both) <= 30_000


def test_tenants_do_not_share_and_leave_nothing_behind_for_ever(redis: Redis) -> None:
    for tenant in ("t", "u"):
        assert asked(redis, Limits(tenant, 600, 1), "a", 600).admitted
        leave(Limits(tenant, 600, 1), "a", 5).run_blocking(redis)
    found = redis.keys("*")
    assert len(found) == 2
    assert all(redis.pttl(key) > 0 for key in found)


def test_no_model_shares_a_tenants_keys() -> None:
    for name in ("t", "tenant:t", "tenant%3At"):
        assert ModelKeys(name).root != TenantKeys("t").root
