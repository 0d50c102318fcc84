"""How much may be queued, and what those are told who come when it is."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.errors import QueueFullError
from scheduler.keys import LANES, Lane
from scheduler.queue import Bounds
from tests.scheduler.conftest import Bench

ROOMY = Bounds(1_000, 1_000)
BATCH_MS = 200


def pace(bench: Bench, tokens_per_second: int) -> None:
    bench.redis.set(bench.keys.pace, f"{tokens_per_second} {BATCH_MS}")


def drain(bench: Bench, count: int) -> None:
    """Does the oldest items."""
    name = f"drain {time.monotonic_ns()}"
    entries = [entry for lane in range(len(LANES)) for entry in bench.entries(lane)][:count]
    bench.lease(name, entries)
    batch = bench.claim(name)
    assert batch is not None
    bench.commit(batch)


def test_tokens_are_counted_by_lane_and_tenant_until_their_items_have_ended(bench: Bench) -> None:
    bench.accept("a", 2, tenant="t")
    bench.accept("b", 1, tenant="u")
    bench.accept("c", 1, Lane.BULK, tenant="t")
    assert bench.queued() == {"0": 4, "0/t": 3, "0/u": 1, "0#": 2, "2": 1, "2/t": 1, "2#": 1}
    drain(bench, 2)
    assert bench.queued() == {"0": 1, "0/u": 1, "0#": 1, "2": 1, "2/t": 1, "2#": 1}
    drain(bench, 2)
    assert bench.queued() == {}


STEPS = ["accept", "accept", "accept", "lease", "claim", "commit", "commit again", "release", "leave", "drop"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), max_size=40))
def test_the_count_is_right_whatever_becomes_of_the_items(bench: Bench, story: list[tuple[str, int]]) -> None:
    bench.redis.flushdb()
    bench.lead()
    batches: dict[str, object] = {}
    for number, (step, choice) in enumerate([*story, *(("commit", n) for n in range(20))]):
        chosen = list(batches)[choice % len(batches)] if batches else None
        if step == "accept":
            bench.accept(str(number), choice % 4 + 1, LANES[choice % 3], tenant="tu"[choice % 2])
        elif step == "lease":
            entries = [entry for lane in range(3) for entry in bench.entries(lane)][: choice % 5 + 1]
            if entries and bench.lease(f"b{number}", entries, slots=99):
                batches[f"b{number}"] = None
        elif step == "leave":
            for key in bench.redis.keys(bench.keys.request_prefix + "*")[: choice % 3]:
                bench.redis.delete(key)
        elif step == "drop":
            bench.drop([entry for lane in range(3) for entry in bench.entries(lane)][: choice % 6])
        elif chosen is not None:
            if step == "claim" or (step.startswith("commit") and batches[chosen] is None):
                batches[chosen] = bench.claim(chosen)
            if step.startswith("commit") and batches[chosen] is not None:
                bench.commit(batches[chosen])  # type: ignore[arg-type]
            if step == "release":
                bench.release(chosen)
        _check_count(bench)


def _check_count(bench: Bench) -> None:
    expected: dict[str, int] = {}
    for number, lane in enumerate(bench.keys.lanes):
        tenants = set()
        for _, fields in bench.redis.xrange(lane):
            tenant, tokens = fields[b"tenant"].decode(), int(fields[b"tokens"])
            tenants.add(tenant)
            for field in (f"{number}", f"{number}/{tenant}"):
                expected[field] = expected.get(field, 0) + tokens
        if tenants:
            expected[f"{number}#"] = len(tenants)
    assert bench.queued() == expected


@pytest.mark.parametrize(("bounds", "bound"), [(Bounds(20, 99), "lane"), (Bounds(99, 20), "tenant")])
def test_what_is_over_a_bound_is_refused_and_changes_nothing(bench: Bench, bounds: Bounds, bound: str) -> None:
    bench.accept("a", 4, bounds=bounds)
    before = bench.queued()
    with pytest.raises(QueueFullError) as caught:
        bench.accept("b", 4, bounds=bounds)
    assert (caught.value.bound, caught.value.queued, caught.value.seconds) == (bound, 10, None)
    assert bench.queued() == before
    assert len(bench.entries()) == 4
    bench.accept("b", 4, bounds=None)


def test_an_empty_queue_takes_anything_and_one_tenant_does_not_keep_another_out(bench: Bench) -> None:
    bench.accept("large", 9, tenant="t", bounds=Bounds(40, 40))
    bench.accept("b", 1, tenant="u", bounds=Bounds(99, 10))
    with pytest.raises(QueueFullError, match="tenant"):
        bench.accept("c", 1, tenant="t", bounds=Bounds(99, 10))


def test_who_is_refused_is_told_when_there_will_be_room_and_the_next_one_a_later_time(bench: Bench) -> None:
    pace(bench, 10)
    bounds = Bounds(100, 100)
    bench.accept("a", 12, bounds=bounds)  # 78 tokens
    waits = []
    for count in (3, 4, 5):
        with pytest.raises(QueueFullError) as caught:
            bench.accept(f"b{count}", count, bounds=bounds)
        waits.append(caught.value.seconds or 0)
    # 78 and 6 are 4 more than four fifths; then comes room for the 6 of the one before, and for the 10.
    assert waits == pytest.approx([0.4, 0.4 + 6 / 9, 0.4 + 16 / 9], abs=0.1)


def test_who_was_promised_room_gets_it_before_others(bench: Bench) -> None:
    pace(bench, 10)
    bounds = Bounds(100, 100)
    bench.accept("a", 12, bounds=bounds)
    with pytest.raises(QueueFullError) as caught:
        bench.accept("b", 3, bounds=bounds)
    with pytest.raises(QueueFullError) as twin:
        bench.accept("another like it", 3, bounds=bounds)
    assert (twin.value.seconds or 0) > (caught.value.seconds or 0), "a promise is for one"
    time.sleep(caught.value.seconds or 0)
    with pytest.raises(QueueFullError):
        bench.accept("other", 4, bounds=bounds)
    bench.accept("b once more", 3, bounds=bounds)
    with pytest.raises(QueueFullError):
        bench.accept("b twice", 3, bounds=bounds)


def in_ms(milliseconds: int) -> int:
    return time.time_ns() // 10**6 + milliseconds


def test_a_deadline_that_cannot_be_met_is_refused_at_once(bench: Bench) -> None:
    bench.accept("a", 12, deadline_ms=in_ms(60_000), bounds=ROOMY)
    bench.accept("the pace is not known", 2, deadline_ms=in_ms(1_000), bounds=ROOMY)
    pace(bench, 10)
    with pytest.raises(QueueFullError) as caught:
        bench.accept("b", 2, deadline_ms=in_ms(3_000), bounds=ROOMY)
    assert caught.value.bound == "deadline"
    # 81 before it and its own 3, of which four fifths of 28 are done in time: a batch takes 0.2 s.
    assert caught.value.seconds == pytest.approx((84 - 0.8 * 28) / 10, abs=0.1)
    bench.accept("c", 2, deadline_ms=in_ms(30_000), bounds=ROOMY)


def test_where_nothing_waits_a_request_is_let_in_whatever_the_pace_is_taken_for(bench: Bench) -> None:
    pace(bench, 1)
    bench.accept("a", 20, deadline_ms=in_ms(1_000), bounds=ROOMY)


def test_what_waits_in_the_lanes_above_counts_and_what_waits_below_does_not(bench: Bench) -> None:
    pace(bench, 10)
    bench.accept("bulk", 12, Lane.BULK, bounds=ROOMY)
    bench.accept("now", 2, deadline_ms=in_ms(1_000), bounds=ROOMY)
    bench.accept("more", 12, bounds=ROOMY)
    with pytest.raises(QueueFullError, match="deadline"):
        bench.accept("job", 1, Lane.JOB, deadline_ms=in_ms(5_000), bounds=ROOMY)


def test_a_tenant_with_little_waiting_is_not_told_to_wait_for_one_with_much(bench: Bench) -> None:
    pace(bench, 10)
    bench.accept("much", 30, tenant="t", bounds=ROOMY)  # 465 tokens
    bench.accept("little", 2, deadline_ms=in_ms(2_000), tenant="u", bounds=ROOMY)
    with pytest.raises(QueueFullError, match="deadline"):
        bench.accept("more", 2, deadline_ms=in_ms(2_000), tenant="t", bounds=ROOMY)
