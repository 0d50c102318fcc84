"""Which items the next micro-batch holds. `MILLPOND_EXAMPLES` (500) are made for each property."""

import os
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.alike import LOOK_AHEAD
from scheduler.draft import Budget
from scheduler.messages import Entry
from scheduler.policy import BULK, LEAST_SHARE, Owed, next_batch
from scheduler.queue import Waiting
from scheduler.turns import QUANTUM, Tenant
from scheduler.window import Window

EXAMPLES = int(os.environ.get("MILLPOND_EXAMPLES", "500"))

Lanes = Mapping[int, Iterable[Waiting]]


def waiting(
    name: str,
    tokens: int = 10,
    lane: int = 0,
    attempts: int = 0,
    priority: int = 0,
    tenant: str = "",
    weight: int = 1,
    deadline_ms: int = 0,
) -> Waiting:
    return Waiting(Entry(lane, name), name, tokens, 0, attempts, priority, tenant, deadline_ms, weight)


def window_of(lanes: Lanes) -> Window:
    window = Window()
    window.add(each for items in lanes.values() for each in items)
    return window


def sent(window: Window, budget: Budget) -> list[Waiting]:
    decision = window.next_batch(budget)
    window.sent(decision)
    return list(decision.batch)


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ({}, []),
        ({0: []}, []),
        ({0: [waiting("a"), waiting("b")]}, ["a", "b"]),
        # Lanes in their order.
        ({2: [waiting("bulk", lane=2)], 1: [waiting("job", lane=1)], 0: [waiting("now")]}, ["now", "job", "bulk"]),
        # The budget of tokens: what does not fit is stepped over, what is shorter and behind it fits.
        ({0: [waiting("a", 60), waiting("b", 60), waiting("c", 40)]}, ["a", "c"]),
        # A sequence longer than the budget goes alone, and only when it is first.
        ({0: [waiting("long", 500), waiting("b")]}, ["long"]),
        ({0: [waiting("b"), waiting("long", 500)]}, ["b"]),
        # An item that failed before goes alone. What comes before it is not held back.
        ({0: [waiting("failed", attempts=1), waiting("b")]}, ["failed"]),
        ({0: [waiting("b"), waiting("failed", attempts=1), waiting("c")]}, ["b"]),
    ],
)
def test_the_batch_holds_what_the_rules_say(lanes: Lanes, expected: list[str]) -> None:
    assert [each.request_id for each in sent(window_of(lanes), Budget(100, 10))] == expected


def test_the_budget_of_sequences_holds() -> None:
    batch = sent(window_of({0: [waiting(str(n)) for n in range(20)]}), Budget(100, 3))
    assert [each.request_id for each in batch] == ["0", "1", "2"]


def test_what_was_stepped_over_comes_first_in_the_next_batch() -> None:
    window = window_of({0: [waiting("a", 60), waiting("b", 60), *(waiting(str(n)) for n in range(20))]})
    assert sent(window, Budget(100, 99))[0].request_id == "a"
    assert sent(window, Budget(100, 99))[0].request_id == "b"


def test_a_lane_that_is_always_passed_over_gets_its_share_and_one_that_is_served_anyway_no_more() -> None:
    """However long the items of the lane below have waited."""
    window, got, given = Window(), 0, 0
    for number in range(400):
        window.add([waiting(f"{number}/{n}") for n in range(20)])
        window.add([waiting(f"bulk {number}/{n}", lane=2) for n in range(20)])
        batch = sent(window, Budget(200, 100))
        given += sum(each.tokens for each in batch)
        got += sum(each.tokens for each in batch if each.entry.lane == 2)
    assert got / given == pytest.approx(LEAST_SHARE, rel=0.05)

    window = window_of({2: [waiting(f"bulk {n}", lane=2) for n in range(3_000)]})
    for number in range(200):
        window.add([waiting(str(number), 100)])
        assert sent(window, Budget(200, 100))[0].entry.lane == 0


def test_an_item_that_must_go_alone_comes_from_the_lane_below_too() -> None:
    window = window_of({2: [waiting("failed", lane=2, attempts=1)]})
    for number in range(100):
        window.add([waiting(str(number), 100)])
        if sent(window, Budget(100, 10))[0].request_id == "failed":
            return
    pytest.fail("it waits for ever")


def by_tokens(tokens: int, _squares: int) -> float:
    return tokens / 1_000


def test_batches_with_others_are_brief_while_interactive_callers_come() -> None:
    budget = Budget(1_000, 1_000, 0.05, by_tokens)
    window = window_of({0: [waiting("a"), waiting("b")], 1: [waiting(f"job {n}", lane=1) for n in range(3)]})
    window.add(waiting(f"bulk {n}", lane=2) for n in range(20))
    assert [each.request_id for each in sent(window, budget)] == ["a", "b", "job 0", "job 1", "job 2"], "50 ms"
    assert [each.entry.lane for each in sent(window, budget)] == [2, 2, 2, 2, 2]
    window.add(waiting(str(n)) for n in range(90))
    assert len(sent(window, budget)) == 90, "what interactive callers send is not cut"
    long = window_of({2: [waiting("long", 500, lane=2), waiting("short", lane=2)]})
    assert [each.request_id for each in sent(long, budget)] == ["long"], "one sequence is let in, however long"


def test_room_that_is_too_short_for_whose_turn_it_is_goes_to_what_fits() -> None:
    """Of the same tenant, however much it had to step over; and what was stepped over comes first in the next batch."""
    budget = Budget(1_000, 1_000, 0.3, by_tokens)
    long, short = ([waiting(f"{size} {n}", size, lane=2) for n in range(6)] for size in (200, 40))
    window = window_of({0: [waiting("now", 150)], 2: [*long, *short]})
    batch = [each.request_id for each in sent(window, budget)]
    assert batch == ["now", "40 0", "40 1", "40 2"]
    assert sent(window, budget)[0].request_id == "200 0"


def test_what_fits_on_credit_is_paid_for_later() -> None:
    window, got = Window(), dict.fromkeys("ab", 0)
    sizes = {"a": [700, 90, 90, 90, 90], "b": [200, 200, 200]}
    for number in range(4_000):
        for tenant in sizes:
            window.add([waiting(f"{tenant}{number}", sizes[tenant][number % len(sizes[tenant])], 2, tenant=tenant)])
    for _ in range(400):
        for each in sent(window, Budget(1_000, 99)):
            got[each.tenant] += each.tokens
    assert got["a"] / sum(got.values()) == pytest.approx(0.5, rel=0.05)


def test_a_lane_is_owed_its_share_while_others_are_brief_too() -> None:
    budget, got, given = Budget(1_000, 1_000, 0.05, by_tokens), 0, 0
    window = window_of({2: [waiting(f"bulk {n}", lane=2) for n in range(3_000)]})
    for number in range(400):
        window.add([waiting(f"{number}/{n}") for n in range(20)])
        batch = sent(window, budget)
        given += sum(each.tokens for each in batch)
        got += sum(each.tokens for each in batch if each.entry.lane == 2)
    assert got / given == pytest.approx(LEAST_SHARE, rel=0.1)


def test_with_the_oldest_of_bulk_go_those_of_like_length_from_a_bounded_look_ahead() -> None:
    lengths = [30, 90, 31, 200, 29, 90, 33, 30]
    window = window_of({2: [waiting(str(n), tokens, lane=2) for n, tokens in enumerate(lengths)]})
    batches = [[each.request_id for each in sent(window, Budget(130, 99))] for _ in range(5)]
    assert batches == [["0", "7", "2", "4"], ["1", "6"], ["3"], ["5"], []]
    far = [waiting("first", 30, lane=2), *(waiting(str(n), 60, lane=2) for n in range(LOOK_AHEAD))]
    window = window_of({2: [*far, waiting("too far", 30, lane=2)]})
    assert [each.request_id for each in sent(window, Budget(100, 99))] == ["first", "0"]


def test_of_bulk_an_item_that_must_go_alone_ends_no_batch_before_its_turn() -> None:
    items = [waiting("0", 30, 2), *(waiting(str(n), 10, 2) for n in range(1, 6)), waiting("6", 30, 2, attempts=1)]
    window = window_of({2: [*items, waiting("7", 30, 2)]})
    batches = [[each.request_id for each in sent(window, Budget(90, 99))] for _ in range(3)]
    assert batches == [["0", "1", "2", "3", "4", "5"], ["6"], ["7"]]


def test_like_length_puts_no_item_before_one_of_another_priority_nor_before_another_lanes_order() -> None:
    urgent = [waiting("0", 30, 2, priority=-1), waiting("1", 60, 2, priority=-1)]
    window = window_of({2: [*urgent, waiting("2", 30, 2)]})
    assert [each.request_id for each in sent(window, Budget(90, 99))] == ["0", "1"]
    for lane in (0, 1):
        window = window_of({lane: [waiting(str(n), tokens, lane) for n, tokens in enumerate([30, 60, 30])]})
        assert [each.request_id for each in sent(window, Budget(90, 99))] == ["0", "1"]


def test_who_would_miss_a_deadline_goes_ahead_of_its_turn_and_waits_the_longer_afterwards() -> None:
    """Every second batch goes by turns alone."""
    budget = Budget(100, 99, pressing_ms=1_000)
    crowd = [waiting(f"{tenant}{n}", 50, tenant=tenant, deadline_ms=60_000) for tenant in "abcd" for n in range(20)]
    window = window_of({0: crowd})
    first = sent(window, budget)
    window.add([waiting("z0", 50, tenant="z", deadline_ms=900), waiting("y0", 50, tenant="y", deadline_ms=800)])
    assert {each.request_id for each in sent(window, budget)} == {"y0", "z0"}, "though a, b, c and d came before them"
    assert {each.tenant for each in first} == {"a"}
    window.add([waiting("x0", 50, tenant="x", deadline_ms=700)])
    assert "x0" not in {each.request_id for each in sent(window, budget)}, "others went ahead in the batch before"
    assert sent(window, budget)[0].request_id == "x0"


def test_deadlines_that_do_not_press_change_nothing() -> None:
    names = [f"{tenant}{n}" for tenant in "ab" for n in range(9)]
    plain, dated = (
        window_of({0: [waiting(name, 50, tenant=name[0], deadline_ms=at) for name in names]}) for at in (0, 5_000)
    )
    for _ in range(10):
        ids = [[each.request_id for each in sent(each, Budget(100, 9, pressing_ms=5_000))] for each in (plain, dated)]
        assert ids[0] == ids[1]


def test_who_always_presses_gets_no_more_than_its_share() -> None:
    window, number, got = Window(), 0, dict.fromkeys("abz", 0)
    for tenant in "abz":
        window.add([waiting(f"{tenant}{n}", 40, tenant=tenant, deadline_ms=900 * (tenant == "z")) for n in range(9)])
    while sum(got.values()) < 100 * QUANTUM:
        for each in sent(window, Budget(200, 99, pressing_ms=1_000)):
            got[each.tenant] += each.tokens
            number += 1
            window.add([waiting(str(number), 40, tenant=each.tenant, deadline_ms=each.deadline_ms)])
    assert got["z"] / sum(got.values()) == pytest.approx(1 / 3, rel=0.1)


def test_credit_is_paid_back_at_ones_own_turn() -> None:
    """And not in the room that is left at a batch's end, which is nobody's turn."""
    weights, sizes, got = {"z": 1, "a": 4, "b": 4}, {"z": 8, "a": 90, "b": 90}, dict.fromkeys("zab", 0)
    window, number = Window(), 0

    def hand_in(tenant: str) -> None:
        nonlocal number
        number, deadline_ms = number + 1, 500 * (tenant == "z")
        window.add([waiting(str(number), sizes[tenant], 0, 0, 0, tenant, weights[tenant], deadline_ms)])

    for tenant, size in sizes.items():
        for _ in range(3_000 // size):
            hand_in(tenant)
    while sum(got.values()) < 600 * QUANTUM:
        for each in sent(window, Budget(1_500, 10_000, pressing_ms=1_000)):
            got[each.tenant] += each.tokens
            hand_in(each.tenant)
    assert got["z"] / sum(got.values()) == pytest.approx(1 / 9, rel=0.1)


def test_the_policy_takes_nothing_away_from_what_it_was_given() -> None:
    lanes = {0: {"t": Tenant([waiting("a", tenant="t")])}}
    owed = Owed()
    assert next_batch(lanes, owed, Budget(100, 10)) == next_batch(lanes, owed, Budget(100, 10))
    assert owed == Owed()


sizes = st.integers(1, 150) | st.integers(1, 3 * QUANTUM)
items = st.tuples(
    st.integers(0, 2),
    sizes,
    st.sampled_from([0, 0, 0, 0, 1, 2]),  # attempts
    st.sampled_from([0, 0, 0, -1, 3]),  # priority
    st.sampled_from("tuvw"),
    st.sampled_from([0, 500, 900, 5_000]),  # deadline_ms
)
stories = st.lists(st.lists(items, max_size=8), max_size=8)


@settings(max_examples=EXAMPLES, deadline=None)
@given(stories, st.integers(1, 400), st.integers(1, 8), st.sampled_from([None, 0, 1_000]))
def test_budgets_hold_nothing_is_lost_or_invented_and_tenants_are_served_in_their_order(
    story: list[list[tuple[int, int, int, int, str, int]]], tokens: int, sequences: int, pressing_ms: int | None
) -> None:
    window, left, number = Window(), dict[str, Waiting](), 0
    story = [*story, *([] for _ in range(200))]
    for arriving in story:
        for lane, size, attempts, priority, tenant, deadline_ms in arriving:
            weight = ord(tenant) % 3 + 1
            left[str(number)] = waiting(
                str(number), size, lane, attempts, priority, tenant, weight, deadline_ms=deadline_ms
            )
            window.add([left[str(number)]])
            number += 1
        batch = sent(window, Budget(tokens, sequences, pressing_ms=pressing_ms))
        assert bool(batch) == bool(left), "an idle worker, and something waits"
        assert len(batch) <= sequences
        assert len(batch) <= 1 or sum(each.tokens for each in batch) <= tokens
        assert len(batch) <= 1 or all(each.attempts == 0 for each in batch)
        taken = {each.request_id for each in batch}
        assert len(taken) == len(batch)
        for each in batch:
            assert left[each.request_id] is each
            _check_order(each, taken, left, tokens)
        for each in batch:
            del left[each.request_id]
    assert left == {}, "somebody starved"


def _check_order(one: Waiting, taken: set[str], left: Mapping[str, Waiting], tokens: int) -> None:
    """Before an item only such go that had no room, or must go alone; of bulk also those of its priority, but one."""
    own = [each for each in left.values() if (each.entry.lane, each.tenant) == (one.entry.lane, one.tenant)]
    first = min(own, key=_order)
    for other in own:
        grouped = one.entry.lane == BULK and other.priority == one.priority and other is not first
        if _order(other) < _order(one) and other.request_id not in taken and not grouped:
            together = other.tokens + sum(left[name].tokens for name in taken)
            assert together > tokens
            assert other.attempts == 0


def _order(item: Waiting) -> tuple[int, int]:
    return item.priority, int(item.request_id)


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(8, 120), st.integers(1, 4), st.integers(1, 20), st.sampled_from([0, 500])),
        min_size=2,
        max_size=6,
    ),
    st.integers(1_500, 4_000),
)
def test_tenants_that_always_have_something_waiting_share_a_lane_by_their_weights(
    tenants: list[tuple[int, int, int, int]], tokens: int
) -> None:
    """Whatever the sizes of their items, as long as these are small beside a batch, however many come at once, and
    whose deadlines press. On credit a tenant is ahead by two turns at most, however long it goes on."""
    window, number = Window(), 0
    got = [0] * len(tenants)
    waits = [0] * len(tenants)
    while sum(got) < 150 * QUANTUM * len(tenants):
        for tenant, (size, weight, burst, deadline_ms) in enumerate(tenants):
            while waits[tenant] * size < 2 * tokens + size * burst:
                item = waiting(str(number), size, tenant=str(tenant), weight=weight, deadline_ms=deadline_ms)
                window.add([item])
                number, waits[tenant] = number + 1, waits[tenant] + 1
        for each in sent(window, Budget(tokens, 10_000, pressing_ms=1_000)):
            got[int(each.tenant)] += each.tokens
            waits[int(each.tenant)] -= 1
    fair = [sum(got) * weight / sum(weight for _, weight, *_ in tenants) for _, weight, *_ in tenants]
    assert got == pytest.approx(fair, rel=0.1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.integers(1, 3 * QUANTUM), min_size=2, max_size=12), st.integers(1, 600), st.data())
def test_nobody_waits_while_others_come_and_go(sizes: list[int], tokens: int, data: st.DataObject) -> None:
    """A tenant with one item is served, though others hand in the next, which presses, as soon as one is taken."""
    window = window_of({0: [waiting("the one", max(sizes), tenant="patient")]})
    window.add([waiting(f"{n}/0", size, tenant=str(n)) for n, size in enumerate(sizes)])
    for round_ in range(1, 40 * len(sizes)):
        batch = sent(window, Budget(tokens, data.draw(st.integers(1, 4)), pressing_ms=1_000))
        if any(each.request_id == "the one" for each in batch):
            return
        for each in batch:
            name, size = f"{each.tenant}/{round_}", sizes[int(each.tenant)]
            window.add([waiting(name, size, tenant=each.tenant, deadline_ms=500)])
    pytest.fail("it waits for ever")
