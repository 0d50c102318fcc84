"""The outbox of webhooks: leases, receivers that are full, failing or too long away, and late reports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

import pytest
from redis import Redis

from scheduler import keys
from scheduler.connection import connect
from scheduler.keys import JOBS
from scheduler.webhooks import ClaimedWebhook, Claims, End, Places, Rest, Webhook, claim, claimed, settle
from tests.conftest import eventually

SOURCE = "".join((files("scheduler") / "lua" / f"{name}.lua").read_text() for name in ("prelude", "outbox"))
REST = Rest(60, 60)
DAY_MS = 86_400_000


@dataclass
class Outbox:
    """An outbox with short words for its steps."""

    redis: Redis

    def post(self, webhook_id: str, receiver: str = "http://a", path: str = "/hook") -> None:
        webhook = Webhook(webhook_id, receiver + path, ["whsec_x"], b"\xff{}")
        self.redis.eval(SOURCE + "post_webhook(ARGV[1], ARGV[2])", 1, JOBS, JOBS, webhook.encode())

    def claim(
        self, free: int = 99, unproven: int = 99, per_receiver: int = 9, oldest_ms: int = DAY_MS, **held: int
    ) -> Claims:
        at_hosts: Mapping[str, int] = {f"http://{host}": count for host, count in held.items()}
        return claimed(claim(Places(free, unproven, per_receiver, at_hosts), oldest_ms).run_blocking(self.redis))

    def prove(self, *hosts: str) -> None:
        """Lets receivers have answered."""
        for host in hosts:
            self.post(f"first-{host}", f"http://{host}")
        for taken in self.claim().webhooks:
            self.settle(taken, End.DELIVERED, answered=True)

    def ids(self, found: Claims) -> list[str]:
        return [each.webhook.webhook_id for each in found.webhooks]

    def settle(
        self, taken: ClaimedWebhook, end: End | None = None, seconds: float = 0, answered: bool | None = True
    ) -> int:
        return int(settle(taken, end, seconds, answered, REST).run_blocking(self.redis))

    def fail(self, taken: ClaimedWebhook, rest: Rest = REST) -> None:
        assert settle(taken, None, 0, False, rest).run_blocking(self.redis) == 1

    def left(self) -> set[str]:
        """All keys, but what is known of receivers that answered."""
        return {key.decode() for key in self.redis.keys("*")} - {keys.WEBHOOK_REACHED}

    def let_lease_run_out(self, webhook_id: str, receiver: str = "http://a") -> None:
        self.redis.zadd(keys.webhooks_to(receiver), {webhook_id: 1})
        self.let_rest_end(receiver)

    def let_rest_end(self, receiver: str = "http://a") -> None:
        for each in (keys.WEBHOOK_RECEIVERS, keys.WEBHOOK_UNPROVEN):
            self.redis.zadd(each, {receiver: 1}, xx=True)


@pytest.fixture
def outbox(clean_redis_url: str) -> Iterator[Outbox]:
    redis = connect(clean_redis_url)
    yield Outbox(redis)
    redis.close()


def test_what_is_handed_in_is_claimed_whole_and_by_one(outbox: Outbox) -> None:
    outbox.post("m1")
    (taken,) = outbox.claim().webhooks
    assert taken.webhook == Webhook("m1", "http://a/hook", ("whsec_x",), b"\xff{}")
    assert (taken.receiver, taken.attempts, taken.unproven) == ("http://a", 0, True)
    again = outbox.claim()
    assert not again.webhooks
    assert again.wait_seconds is not None
    assert 50 < again.wait_seconds <= 60


def test_a_receiver_has_as_many_as_it_may_and_passes_the_rest_to_others(outbox: Outbox) -> None:
    outbox.prove("a", "b:8080")
    for number in range(5):
        outbox.post(f"a{number}", "http://a")
    outbox.post("b0", "http://b:8080")
    assert outbox.ids(outbox.claim(per_receiver=3, a=1)) == ["a0", "a1", "b0"]
    assert outbox.ids(outbox.claim(per_receiver=3, a=3)) == []
    assert outbox.ids(outbox.claim(free=1, per_receiver=3)) == ["a2"]


def test_a_receiver_behind_many_that_are_full_is_found(outbox: Outbox) -> None:
    full = {f"h{number}": 4 for number in range(30)}
    outbox.prove(*full, "last")
    for host in full:
        outbox.post(f"{host}-1", f"http://{host}")
    outbox.post("last", "http://last")
    assert outbox.ids(outbox.claim(free=1, per_receiver=4, **full)) == ["last"]


def test_a_new_receiver_is_asked_by_one_attempt_and_has_the_others_when_it_answered(outbox: Outbox) -> None:
    for number in range(3):
        outbox.post(f"a{number}")
    (taken,) = outbox.claim().webhooks
    outbox.post("a3")
    assert not outbox.claim(a=1).webhooks
    outbox.settle(taken, End.DELIVERED)
    assert outbox.ids(outbox.claim()) == ["a1", "a2", "a3"]


def test_those_that_never_answered_take_no_place_of_those_that_do(outbox: Outbox) -> None:
    outbox.prove("good")
    for number in range(100):
        # Those of one millisecond are in the order of their names.
        outbox.post(f"s{number:02}", f"http://silent{number:02}")
    outbox.post("g0", "http://good")
    first = outbox.claim(free=8, unproven=3)
    assert outbox.ids(first) == ["g0", "s00", "s01", "s02"]
    outbox.post("g1", "http://good")
    assert outbox.ids(outbox.claim(free=4, unproven=0)) == ["g1"]


def test_one_that_was_not_reached_is_left_alone_then_asked_by_one_attempt(outbox: Outbox) -> None:
    outbox.prove("a", "b")
    for number in range(3):
        outbox.post(f"a{number}", "http://a")
    (taken,) = outbox.claim(free=1).webhooks
    outbox.fail(taken)
    outbox.post("a9", "http://a")
    outbox.post("b0", "http://b")
    assert outbox.ids(outbox.claim()) == ["b0"]
    outbox.let_rest_end()
    assert outbox.ids(outbox.claim(unproven=0)) == []
    (probe,) = outbox.claim().webhooks
    assert probe.unproven
    assert outbox.ids(outbox.claim()) == []
    outbox.settle(probe, End.DELIVERED)
    assert len(outbox.claim().webhooks) == 3


def test_a_rest_is_twice_as_long_each_time_up_to_the_longest(outbox: Outbox) -> None:
    outbox.post("a0")
    rests = []
    for _ in range(5):
        (taken,) = outbox.claim().webhooks
        outbox.fail(taken, Rest(10, 50))
        rests.append(round(outbox.claim().wait_seconds or 0, -1))
        outbox.let_lease_run_out("a0")
    assert rests == [10, 20, 40, 50, 50]


def test_one_that_ended_is_not_handed_in_again_and_leaves_nothing_but_its_end(outbox: Outbox) -> None:
    outbox.post("a0")
    (taken,) = outbox.claim().webhooks
    assert outbox.settle(taken, End.GIVEN_UP) == 1
    outbox.post("a0")
    assert not outbox.claim().webhooks
    assert outbox.redis.hget(keys.webhook("a0"), "outcome") == b"given_up"
    assert outbox.redis.ttl(keys.webhook("a0")) > 0
    assert outbox.left() == {keys.webhook("a0")}


def test_a_late_report_is_not_taken_but_a_late_delivery_is(outbox: Outbox) -> None:
    outbox.post("a0")
    (late,) = outbox.claim().webhooks
    outbox.let_lease_run_out("a0")
    (current,) = outbox.claim().webhooks
    assert outbox.settle(late, seconds=1) == 0
    assert outbox.settle(late, End.GIVEN_UP) == 0
    assert outbox.settle(late, End.DELIVERED) == 1
    assert outbox.settle(current) == 0
    assert outbox.left() == {keys.webhook("a0")}


def test_it_is_tried_again_at_its_time_and_knows_how_often_it_failed(outbox: Outbox) -> None:
    outbox.post("a0")
    (taken,) = outbox.claim().webhooks
    outbox.settle(taken, seconds=0.2)
    assert not outbox.claim().webhooks
    (again,) = eventually(lambda: outbox.claim().webhooks)
    assert again.attempts == 1
    assert again.claim == 2


def test_old_ones_are_given_up_only_where_the_receiver_is_not_reached(outbox: Outbox) -> None:
    for number in range(150):
        outbox.post(f"a{number}", "http://a")
    outbox.post("b0", "http://b")
    (taken,) = outbox.claim(free=1).webhooks
    outbox.fail(taken)
    found = [outbox.claim(oldest_ms=-1000) for _ in range(3)]
    assert [each.given_up for each in found] == [100, 50, 0]
    assert [outbox.ids(each) for each in found] == [["b0"], [], []]
    assert outbox.redis.zrange(keys.WEBHOOKS, 0, -1) == [b"b0"]


def test_all_keys_share_the_hash_tag_of_jobs() -> None:
    fixed = [keys.WEBHOOKS, keys.WEBHOOK_RECEIVERS, keys.WEBHOOK_UNPROVEN, keys.WEBHOOK_FAILURES]
    assert all(each.startswith(JOBS) for each in [*fixed, keys.webhook("m"), keys.webhooks_to("http://a")])
