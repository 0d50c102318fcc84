"""The queue's invariants, step by step, on a real Redis."""

import msgpack
import pytest

from scheduler import leases
from scheduler.keys import Lane
from scheduler.messages import Failure, Vector, decode_result
from scheduler.settings import ATTEMPTS_ALLOWED
from tests.scheduler.conftest import CHANNEL, Bench


def test_a_request_goes_through_all_steps_and_leaves_nothing_behind(bench: Bench) -> None:
    assert bench.accept("r", 3) == 1
    assert bench.lease("b") == 3
    batch = bench.claim("b")
    assert batch is not None
    assert [leased.item.index for leased in batch.items] == [0, 1, 2]
    assert batch.tokens == 1 + 2 + 3
    assert bench.commit(batch, b"abcd") == 3
    assert bench.results("r") == dict.fromkeys((b"0", b"1", b"2"), Vector(b"abcd").encode())
    bench.redis.delete(bench.keys.request("r"), bench.keys.result("r"))
    left = {key.decode() for key in bench.redis.keys("*")}
    assert left == {bench.keys.leader, bench.keys.leader_count, bench.keys.counters, bench.keys.lanes[0]}
    assert bench.entries() == []


def test_a_request_handed_in_twice_is_accepted_once(bench: Bench) -> None:
    assert [bench.accept("r", 2), bench.accept("r", 2)] == [1, 0]
    assert len(bench.entries()) == 2


def test_an_item_stays_in_its_lane_until_its_result_is_written(bench: Bench) -> None:
    bench.accept("r")
    bench.lease("b")
    batch = bench.claim("b")
    assert len(bench.entries()) == 1
    assert batch is not None
    bench.commit(batch)
    assert bench.entries() == []


def test_an_entry_can_be_in_one_batch_only(bench: Bench) -> None:
    bench.accept("r", 2)
    entries = bench.entries()
    assert bench.lease("b1", entries[:1]) == 1
    assert bench.lease("b2", entries) == 1
    batch = bench.claim("b2")
    assert batch is not None
    assert [leased.item.index for leased in batch.items] == [1]


def test_no_more_batches_are_leased_for_a_worker_than_it_has_slots(bench: Bench) -> None:
    bench.accept("r", 3)
    entries = bench.entries()
    assert bench.lease("b1", entries[:1], slots=1) == 1
    assert bench.lease("b2", entries[1:], slots=1) is leases.Refusal.FULL
    assert bench.lease("b3", entries[1:2], slots=1, worker="w2") == 1
    assert bench.held() == {b"w1": b"1", b"w2": b"1"}
    batch = bench.claim("b1")
    assert batch is not None
    bench.commit(batch)
    bench.commit(batch)
    assert bench.held() == {b"w2": b"1"}, "a slot is freed once"
    assert bench.lease("b4", entries[2:], slots=1) == 1


def test_a_late_leader_is_fenced(bench: Bench) -> None:
    bench.accept("r")
    late = bench.token
    assert bench.lead() == 0, "the leadership is held"
    bench.redis.delete(bench.keys.leader)
    assert bench.lead() == late + 1
    bench.token = late
    assert bench.lease("b") is leases.Refusal.FENCED
    assert leases.resign(bench.keys, late).run_blocking(bench.redis) == 0


def test_a_batch_is_for_one_worker_who_may_ask_again(bench: Bench) -> None:
    bench.accept("r")
    bench.lease("b")
    assert bench.claim("b", "w2") is None
    assert bench.claim("b", "w1") is not None
    assert bench.claim("b", "w1") is not None


def test_a_batch_run_twice_changes_and_counts_nothing_the_second_time(bench: Bench) -> None:
    bench.accept("r", 2)
    bench.lease("b")
    batch = bench.claim("b")
    assert batch is not None
    assert bench.commit(batch, b"once") == 2
    assert bench.commit(batch, b"more") == 0
    assert set(bench.results("r").values()) == {Vector(b"once").encode()}
    assert bench.counter("items_answered") == 2
    assert bench.counter("items_repeated") == 2


def test_a_late_commit_after_the_caller_fetched_leaves_nothing_behind(bench: Bench) -> None:
    bench.accept("r")
    bench.lease("b")
    batch = bench.claim("b")
    assert batch is not None
    bench.commit(batch)
    bench.redis.delete(bench.keys.request("r"), bench.keys.result("r"))
    assert bench.commit(batch) == 0
    assert bench.results("r") == {}


def test_a_lease_that_runs_out_sends_its_items_back_with_one_attempt_more(bench: Bench) -> None:
    bench.accept("r", 2)
    bench.lease("b")
    assert bench.claim("b") is not None
    assert bench.release("b", only_expired=True) is None, "the lease holds"
    bench.expire_lease("b")
    assert bench.release("b", only_expired=True) == [2, 0]
    attempts = [fields[b"attempts"] for _, fields in bench.redis.xrange(bench.keys.lanes[0])]
    assert attempts == [b"1", b"1"]
    assert bench.lease("again") == 2


def test_the_first_worker_of_a_batch_that_went_back_changes_nothing(bench: Bench) -> None:
    bench.accept("r")
    bench.lease("b1", worker="slow")
    slow = bench.claim("b1", "slow")
    assert slow is not None
    bench.expire_lease("b1")
    bench.release("b1", only_expired=True)
    assert leases.renew(bench.keys, "b1", "slow").run_blocking(bench.redis) == 0
    bench.lease("b2", worker="quick")
    quick = bench.claim("b2", "quick")
    assert quick is not None
    assert bench.commit(slow, b"late") == 0
    assert bench.commit(quick, b"good") == 1
    assert bench.results("r") == {b"0": Vector(b"good").encode()}
    assert bench.counter("items_answered") == 1


def test_a_message_that_nobody_got_is_no_attempt(bench: Bench) -> None:
    bench.accept("r")
    bench.lease("b")
    bench.expire_lease("b")
    assert bench.release("b", only_expired=True) == [1, 0]
    ((_, fields),) = bench.redis.xrange(bench.keys.lanes[0])
    assert fields[b"attempts"] == b"0"


def test_an_item_that_no_worker_survives_is_answered_with_an_error_and_dead_lettered(bench: Bench) -> None:
    bench.accept("r")
    for attempt in range(ATTEMPTS_ALLOWED):
        bench.lease(f"b{attempt}", worker=f"w{attempt}")
        assert bench.claim(f"b{attempt}", f"w{attempt}") is not None
        bench.release(f"b{attempt}")
    result = decode_result(bench.results("r")[b"0"])
    assert isinstance(result, Failure)
    assert (result.status, result.code) == (500, "item_given_up")
    ((_, letter),) = bench.redis.xrange(bench.keys.dead_letters)
    assert letter[b"reasons"].decode().splitlines() == [f"{n + 1}: worker w{n}: tried" for n in range(ATTEMPTS_ALLOWED)]
    assert bench.entries() == []
    assert bench.counter("items_given_up") == 1


def test_items_whose_caller_left_are_never_leased_nor_claimed(bench: Bench) -> None:
    for request_id in ("stays", "left early", "left late"):
        bench.accept(request_id)
    bench.redis.delete(bench.keys.request("left early"))
    assert bench.lease("b") == 2
    bench.redis.delete(bench.keys.request("left late"))
    batch = bench.claim("b")
    assert batch is not None
    assert [leased.item.request_id for leased in batch.items] == ["stays"]
    assert bench.counter("items_abandoned") == 2


def test_a_batch_whose_callers_all_left_frees_its_slot(bench: Bench) -> None:
    bench.accept("r")
    bench.lease("b")
    bench.redis.delete(bench.keys.request("r"))
    assert bench.claim("b") is None
    assert bench.redis.zcard(bench.keys.leases) == 0
    assert not bench.redis.exists(bench.keys.claims)
    assert bench.held() == {}


def test_callers_are_woken_once_with_all_that_is_complete(bench: Bench) -> None:
    with bench.redis.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        assert subscription.get_message(timeout=5)["type"] == "subscribe"
        bench.accept("whole", 2)
        bench.accept("also whole")
        bench.accept("half", 2)
        bench.lease("b", bench.entries()[:4])
        batch = bench.claim("b")
        assert batch is not None
        bench.commit(batch)
        message = subscription.get_message(timeout=5)
        news = {request: sorted(values) for request, values in msgpack.unpackb(message["data"], raw=True)}
        value = Vector(b"1234").encode()
        assert news == {b"whole": [b"0", b"1", value, value], b"also whole": [b"0", value]}
        assert subscription.get_message(timeout=0.05) is None


PAST_MS, FUTURE_MS = 1, 2**45


def test_items_whose_deadline_passed_are_never_leased_nor_claimed(bench: Bench) -> None:
    bench.accept("in time", deadline_ms=FUTURE_MS)
    bench.accept("late", 2, deadline_ms=PAST_MS)
    assert bench.lease("b") == 1
    bench.accept("late in its batch", deadline_ms=FUTURE_MS)
    assert bench.lease("b2", bench.entries()[1:]) == 1
    bench.expire("late in its batch")
    assert bench.claim("b2") is None
    batch = bench.claim("b")
    assert batch is not None
    assert [leased.item.request_id for leased in batch.items] == ["in time"]
    assert len(bench.entries()) == 1
    assert bench.counter("items_expired") == 2
    assert bench.counter("items_abandoned") == 1, "its item says that it had time left"


@pytest.mark.parametrize("deadline_ms", [0, PAST_MS, FUTURE_MS])
def test_whoever_takes_a_request_back_at_its_deadline_has_it_counted_as_late_once(
    bench: Bench, deadline_ms: int
) -> None:
    bench.accept("r", 3, deadline_ms=deadline_ms)
    bench.redis.delete(bench.keys.request("r"))
    first, *rest = bench.entries()
    assert bench.drop([first]) == [1]
    assert bench.lease("b", [first, *rest]) == 0
    assert bench.drop([first, *rest]) == [1, 1, 1]
    late = 3 if deadline_ms == PAST_MS else 0
    assert (bench.counter("items_expired"), bench.counter("items_abandoned")) == (late, 3 - late)


def test_only_items_that_nobody_waits_for_are_dropped(bench: Bench) -> None:
    bench.accept("late", deadline_ms=PAST_MS)
    bench.accept("waits", deadline_ms=FUTURE_MS)
    bench.accept("waits for ever")
    bench.accept("held")
    entries = bench.entries()
    bench.lease("b", entries[3:])
    bench.redis.delete(bench.keys.request("held"))
    assert bench.drop(entries) == [1, 0, 0, 1]
    assert bench.entries() == entries[1:], "what a batch holds is left to it"
    assert bench.counter("items_expired") == 1


def test_a_result_that_comes_after_the_deadline_is_counted_as_work_for_nobody(bench: Bench) -> None:
    bench.accept("late", deadline_ms=FUTURE_MS)
    bench.accept("left")
    bench.accept("waits", deadline_ms=FUTURE_MS)
    bench.lease("b")
    batch = bench.claim("b")
    assert batch is not None
    bench.expire("late")
    bench.redis.delete(bench.keys.request("left"))
    assert bench.commit(batch) == 1
    assert bench.entries() == []
    assert bench.results("late") == {}
    assert bench.counter("items_unwanted") == 2
    assert bench.counter("items_expired") == bench.counter("items_abandoned") == 0


def test_items_whose_deadline_passed_do_not_go_back(bench: Bench) -> None:
    bench.accept("late", deadline_ms=FUTURE_MS)
    bench.accept("waits", deadline_ms=FUTURE_MS)
    bench.lease("b")
    bench.expire("late")
    assert bench.release("b") == [1, 0]
    bench.lease("b")
    assert bench.claim("b") is not None
    bench.expire("waits")
    assert bench.release("b") == [0, 0]
    assert bench.entries() == []
    assert (bench.counter("items_abandoned"), bench.counter("items_unwanted")) == (1, 1)


@pytest.mark.parametrize("lane", list(Lane))
def test_items_go_back_to_their_own_lane(bench: Bench, lane: Lane) -> None:
    bench.accept("r", 1, lane)
    number = list(Lane).index(lane)
    bench.lease("b", bench.entries(number))
    assert bench.claim("b") is not None
    bench.release("b")
    assert len(bench.entries(number)) == 1


def test_a_heartbeat_tells_how_many_batches_are_held_or_on_their_way(bench: Bench) -> None:
    def heartbeat() -> int:
        return int(leases.heartbeat(bench.keys, "w1", {"slots": 2}).run_blocking(bench.redis))

    assert heartbeat() == 0
    bench.accept("r")
    bench.lease("b")
    assert heartbeat() == 1
    batch = bench.claim("b")
    assert heartbeat() == 1
    assert batch is not None
    bench.commit(batch)
    assert heartbeat() == 0
    assert bench.redis.hget(bench.keys.worker("w1"), "slots") == b"2"
