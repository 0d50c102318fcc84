"""What a leader holds in memory: how much of each tenant, priorities, deadlines."""

from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import window as window_module
from scheduler.draft import Budget
from scheduler.messages import Entry
from scheduler.queue import Waiting, follows, order_of
from scheduler.window import WINDOW, Window


def waiting(name: str, lane: int = 0, priority: int = 0, deadline_ms: int = 0, tenant: str = "") -> Waiting:
    return Waiting(Entry(lane, name), name, 10, 0, 0, priority, tenant, deadline_ms)


def sent(window: Window, sequences: int = 10) -> list[Waiting]:
    decision = window.next_batch(Budget(100_000, sequences))
    window.sent(decision)
    return list(decision.batch)


def test_what_is_too_much_of_one_tenants_is_passed_over_until_there_is_room_and_hides_nobody_else() -> None:
    window = Window()
    window.add(waiting(f"1-{n}", lane=1, tenant="many") for n in range(WINDOW + 3))
    window.add([waiting("2-0", lane=1, tenant="one")])
    assert window.gaps() == [], "there is no room yet"
    assert {each.tenant for each in sent(window, 100)} == {"many", "one"}
    window.remove(Entry(1, f"1-{n}") for n in range(WINDOW // 2))
    (gap,) = window.gaps()
    assert (gap.lane, gap.tenant, gap.first, gap.last) == (1, "many", f"1-{WINDOW}", f"1-{WINDOW + 2}")


@pytest.mark.parametrize(
    ("lane", "expected"),
    [
        ([("1-0", 0), ("1-1", -1), ("1-2", 5), ("1-3", -1)], ["1-1", "1-3", "1-0", "1-2"]),
        ([("1-0", 1), ("1-1", 1), ("1-2", 0)], ["1-2", "1-0", "1-1"]),
    ],
)
def test_priority_orders_a_tenants_items(lane: list[tuple[str, int]], expected: list[str]) -> None:
    together, one_by_one = Window(), Window()
    together.add(waiting(name, priority=priority) for name, priority in lane)
    for name, priority in lane:
        one_by_one.add([waiting(name, priority=priority)])
        one_by_one.next_batch(Budget(1_000, 1))
    assert [each.request_id for each in sent(together)] == [each.request_id for each in sent(one_by_one)] == expected


def test_a_tenant_that_always_has_something_urgent_gets_no_more_turns_than_others() -> None:
    window, got = Window(), dict.fromkeys("tu", 0)
    for n in range(400):
        window.add([waiting(f"{n}-0", tenant="t", priority=-9), waiting(f"{n}-1", tenant="u")])
        got[sent(window, 1)[0].tenant] += 1
    assert got["t"] == pytest.approx(got["u"], abs=52), "more than the turns of a quantum apart"


arrivals = st.lists(st.sampled_from("tuv"), max_size=9)


@settings(deadline=None)
@given(st.lists(st.tuples(arrivals, st.integers(0, 9), st.integers(0, 3)), max_size=20), st.integers(1, 4))
def test_a_lane_longer_than_the_window_is_sent_whole_and_once(
    story: list[tuple[list[str], int, int]], bound: int
) -> None:
    """Whatever comes while gaps are read again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_module, "WINDOW", bound)
        window, lane, done = Window(), list[Waiting](), list[Waiting]()
        for arriving, sequences, reads in [*story, *(([], 9, 9) for _ in range(100))]:
            pending = [(gap, *_read_again(lane, gap.first, gap.last)) for gap in window.gaps()[:reads]]
            found = [waiting(f"{len(lane) + n}-0", tenant=tenant) for n, tenant in enumerate(arriving)]
            lane += found
            window.add(found)
            for gap, again, read_to in pending:
                window.fill(gap, again, read_to)
            if sequences:
                done += sent(window, sequences)
    assert sorted(done, key=_place) == lane
    for tenant in "tuv":
        own = [_place(each) for each in done if each.tenant == tenant]
        assert all(one < other for one, other in pairwise(own))


def _place(waiting: Waiting) -> tuple[int, int]:
    return order_of(waiting.entry.entry_id)


def _read_again(lane: list[Waiting], first: str, last: str) -> tuple[list[Waiting], str | None]:
    """Two entries at a time, as from Redis."""
    begin = bisect_left(lane, order_of(first), key=_place)
    found = [each for each in lane[begin : begin + 2] if _place(each) <= order_of(last)]
    return found, found[-1].entry.entry_id if found else None


def test_entries_have_an_order_and_followers() -> None:
    assert order_of("9-10") > order_of("9-9") > order_of("8-99")
    assert order_of(follows("9-9")) == (9, 10)


def test_items_are_found_expired_from_their_deadline_on_until_they_are_removed() -> None:
    window = Window()
    window.add([waiting("later", deadline_ms=50), waiting("soon", lane=2, deadline_ms=20), waiting("never")])
    assert window.expired(19) == []
    assert window.expired(20) == [Entry(2, "soon")]
    assert window.expired(20) == [Entry(2, "soon")], "it was not removed: Redis still keeps it"
    window.remove([Entry(2, "soon")])
    assert window.expired(49) == []
    window.add([waiting("sooner", deadline_ms=40)])
    assert window.expired(49) == [Entry(0, "sooner")]
    assert window.expired(50) == [Entry(0, "later"), Entry(0, "sooner")]
