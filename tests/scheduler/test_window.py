"""What a leader holds in memory: room, priorities, deadlines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.messages import Entry
from scheduler.policy import Budget
from scheduler.queue import Waiting
from scheduler.window import WINDOW, Window


def waiting(name: str, lane: int = 0, priority: int = 0, deadline_ms: int = 0, tenant: str = "") -> Waiting:
    return Waiting(Entry(lane, name), name, 10, 0, 0, priority, tenant, deadline_ms)


def names(window: Window, sequences: int = 10) -> str:
    return "".join(each.request_id for each in window.next_batch(Budget(1000, sequences), 0))


def test_a_full_lane_has_no_room_until_something_is_removed() -> None:
    window = Window()
    window.add(waiting(str(n), lane=1) for n in range(WINDOW))
    assert window.lanes_with_room() == [0, 2]
    window.remove([Entry(1, "7"), Entry(1, "7")])
    assert window.lanes_with_room() == [0, 1, 2]


@pytest.mark.parametrize(
    ("lane", "expected"),
    [
        ([("a", "t", 0), ("b", "t", -1), ("c", "t", 5), ("d", "t", -1)], "bdac"),
        # The urgent item takes the first place of its own tenant, and that is behind another's.
        ([("a", "t", 3), ("b", "u", 0), ("c", "u", -9)], "acb"),
        ([("a", "t", 1), ("b", "u", 0), ("c", "t", 0), ("d", "u", 0), ("e", "t", -1)], "ebcda"),
    ],
)
def test_priority_orders_a_tenants_items_among_their_own_places(
    lane: list[tuple[str, str, int]], expected: str
) -> None:
    items = [waiting(name, tenant=tenant, priority=priority) for name, tenant, priority in lane]
    together, one_by_one = Window(), Window()
    together.add(items)
    for item in items:
        one_by_one.add([item])
        names(one_by_one)
    assert names(together) == names(one_by_one) == expected


def test_a_tenant_that_always_has_something_urgent_gets_no_more_turns_than_others() -> None:
    window = Window()
    window.add([waiting("a", tenant="t"), waiting("b", tenant="u"), waiting("c", tenant="t", priority=-1)])
    assert names(window, 1) == "c"
    window.remove([Entry(0, "c")])
    window.add([waiting("d", tenant="t", priority=-1)])
    assert names(window, 3) == "bda"
    window.remove([Entry(0, "a")])
    assert names(window) == "bd", "one that left takes the place along where it lay"


arrivals = st.lists(st.tuples(st.sampled_from("tuv"), st.integers(-2, 2)), max_size=12)


@given(st.lists(st.tuples(arrivals, st.integers(1, 9)), max_size=12))
def test_nothing_is_lost_or_sent_twice_and_turns_are_taken_in_the_order_of_arrival(
    story: list[tuple[list[tuple[str, int]], int]],
) -> None:
    window, number, left = Window(), 0, dict[str, Waiting]()
    turns: list[str] = []
    for arriving, sequences in [*story, ([], 1_000)]:
        for tenant, priority in arriving:
            left[str(number)] = waiting(str(number), tenant=tenant, priority=priority)
            window.add([left[str(number)]])
            turns.append(tenant)
            number += 1
        batch = window.next_batch(Budget(100_000, sequences), 0)
        window.remove([each.entry for each in batch])
        assert len(batch) == min(sequences, len(left))
        for each in batch:
            own = [other for other in left.values() if other.tenant == each.tenant]
            first = min(own, key=lambda other: (other.priority, int(other.request_id)))
            assert left.pop(first.request_id) == each
        assert [each.tenant for each in batch] == [turns.pop(0) for _ in batch]
    assert left == {}


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
