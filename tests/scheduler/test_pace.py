"""How many tokens a model's workers do in a second."""

import pytest

from scheduler import pace
from scheduler.pace import FIRST_SHARE, LEAST_SHARE, Pace


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def looked(found: Pace, clock: Clock, tokens: int, *, idle: bool = False, promised: float = 500.0) -> float:
    clock.now += 2
    found.done(tokens)
    if idle:
        found.idled()
    return found.look(promised)


def test_before_anything_had_to_wait_it_is_most_of_what_the_costs_promise(clock: Clock) -> None:
    found = Pace()
    assert looked(found, clock, 3, idle=True) == 500 * FIRST_SHARE
    assert looked(found, clock, 3, idle=True) == 500 * FIRST_SHARE, "an idle worker is not slow"


def test_what_lies_around_forwards_is_remembered_while_workers_idle(clock: Clock) -> None:
    found = Pace()
    for _ in range(40):
        looked(found, clock, 900)
    for _ in range(40):
        now = looked(found, clock, 3, idle=True)
    assert now == pytest.approx(450, rel=0.01), "while it was busy it did 450 of the 500 that were promised"


def test_while_there_is_always_work_it_becomes_what_is_done(clock: Clock) -> None:
    found = Pace()
    for _ in range(40):
        now = looked(found, clock, 200)
    assert now == pytest.approx(100, rel=0.01)


def test_what_was_slow_once_is_not_for_ever(clock: Clock) -> None:
    """Or a pace so low that everything is refused would never be seen to be wrong."""
    found = Pace()
    for _ in range(40):
        looked(found, clock, 2)
    for _ in range(20):
        now = looked(found, clock, 2, idle=True)
    assert now == pytest.approx(500 * LEAST_SHARE, rel=0.05)


def test_without_a_worker_there_is_none(clock: Clock) -> None:
    found = Pace()
    looked(found, clock, 3)
    assert looked(found, clock, 0, promised=0) == 0
    assert looked(found, clock, 0) > 250
