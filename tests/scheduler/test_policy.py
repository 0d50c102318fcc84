"""Which items the next micro-batch holds."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.messages import Entry
from scheduler.policy import AGEING_MS, LOOK_AHEAD, Budget, Place, by_priority, next_batch
from scheduler.queue import Waiting

NOW = 1_000_000_000


def waiting(
    name: str, tokens: int = 10, lane: int = 0, age_ms: int = 0, attempts: int = 0, priority: int = 0
) -> Waiting:
    return Waiting(Entry(lane, name), name, tokens, NOW - age_ms, attempts, priority)


def places(items: Iterable[Waiting]) -> list[Place]:
    return [Place(each.created_ms, each) for each in items]


def chosen(lanes: dict[int, list[Waiting]], tokens: int = 100, sequences: int = 10) -> list[str]:
    given_places = {number: places(items) for number, items in lanes.items()}
    return [each.request_id for each in next_batch(given_places, Budget(tokens, sequences), NOW)]


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ({}, []),
        ({0: []}, []),
        ({0: [waiting("a"), waiting("b")]}, ["a", "b"]),
        # Lanes in their order, whatever the age below the step.
        (
            {2: [waiting("bulk", age_ms=900)], 1: [waiting("job", age_ms=500)], 0: [waiting("now")]},
            ["now", "job", "bulk"],
        ),
        # One step of age raises an item by one lane; there the older goes first.
        (
            {0: [waiting("now", age_ms=5)], 1: [waiting("aged job", age_ms=AGEING_MS)]},
            ["aged job", "now"],
        ),
        ({0: [waiting("now")], 2: [waiting("aged bulk", age_ms=AGEING_MS)]}, ["now", "aged bulk"]),
        # The budget of tokens: what does not fit is stepped over, what is shorter and behind it fits.
        ({0: [waiting("a", 60), waiting("b", 60), waiting("c", 40)]}, ["a", "c"]),
        # A sequence longer than the budget goes alone, and only when it is first.
        ({0: [waiting("long", 500), waiting("b")]}, ["long"]),
        ({0: [waiting("b"), waiting("long", 500)]}, ["b"]),
        # An item that failed before goes alone, and waits until it is first.
        ({0: [waiting("failed", attempts=1), waiting("b")]}, ["failed"]),
        ({0: [waiting("b"), waiting("failed", attempts=1), waiting("c")]}, ["b", "c"]),
    ],
)
def test_the_batch_holds_what_the_rules_say(lanes: dict[int, list[Waiting]], expected: list[str]) -> None:
    assert chosen(lanes) == expected


def test_the_budget_of_sequences_holds() -> None:
    assert chosen({0: [waiting(str(n)) for n in range(20)]}, sequences=3) == ["0", "1", "2"]


def test_looking_ahead_ends() -> None:
    items = [waiting("a", 90), *(waiting(f"big {n}", 50) for n in range(LOOK_AHEAD + 1)), waiting("small", 1)]
    assert chosen({0: items}) == ["a"]


def test_a_lane_rises_with_its_oldest_place_though_an_urgent_item_has_taken_it() -> None:
    bulk = by_priority(places([waiting("aged", lane=2, age_ms=2 * AGEING_MS), waiting("urgent", lane=2, priority=-1)]))
    interactive = places([waiting("now", age_ms=9), waiting("now too", age_ms=9)])
    batch = next_batch({0: interactive, 2: bulk}, Budget(100, 2), NOW)
    assert [each.request_id for each in batch] == ["urgent", "now"]


@given(st.lists(st.integers(-2, 2), max_size=40))
def test_the_urgent_lie_first_equals_in_their_order_and_the_places_stay(priorities: list[int]) -> None:
    before = places(waiting(str(n), age_ms=100 - n, priority=priority) for n, priority in enumerate(priorities))
    after = by_priority(before)
    assert [place.since_ms for place in after] == [place.since_ms for place in before]
    found = [(place.waiting.priority, int(place.waiting.request_id)) for place in after]
    assert found == sorted((priority, n) for n, priority in enumerate(priorities))


items = st.builds(
    lambda tokens, age_ms, attempts: (tokens, age_ms, attempts),
    st.integers(1, 150),
    st.integers(0, 3 * AGEING_MS),
    st.sampled_from([0, 0, 0, 1, 2]),
)


@given(st.lists(st.lists(items, max_size=30), min_size=3, max_size=3), st.integers(1, 200), st.integers(1, 8))
def test_budgets_hold_nothing_is_invented_and_the_first_goes_first(
    content: list[list[tuple[int, int, int]]], tokens: int, sequences: int
) -> None:
    lanes: dict[int, Sequence[Waiting]] = {
        lane: [
            waiting(f"{lane}/{n}", size, lane, age, attempts)
            for n, (size, age, attempts) in enumerate(sorted(entries, key=lambda each: -each[1]))
        ]
        for lane, entries in enumerate(content)
    }
    batch = next_batch({lane: places(entries) for lane, entries in lanes.items()}, Budget(tokens, sequences), NOW)
    everything = [each for entries in lanes.values() for each in entries]
    assert bool(batch) == bool(everything)
    assert len(set(batch)) == len(batch)
    assert set(batch) <= set(everything)
    assert len(batch) <= sequences
    assert len(batch) == 1 or sum(each.tokens for each in batch) <= tokens
    assert len(batch) == 1 or all(each.attempts == 0 for each in batch)
    if batch:
        # Work conserving and free of starvation: the first of some lane is in every batch.
        assert batch[0] in [entries[0] for entries in lanes.values() if entries]
