"""How many tokens a model's workers do in a second."""

import pytest

from scheduler import pace
from scheduler.pace import Pace


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


def looked(found: Pace, clock: Clock, tokens: int, *, waiting: bool, promised: float = 500.0) -> float:
    clock.now += 2
    found.done(tokens)
    return found.look(waiting=waiting, promised=promised)


def test_before_anything_had_to_wait_it_is_what_the_costs_promise(clock: Clock) -> None:
    found = Pace()
    assert looked(found, clock, 3, waiting=False) == 500
    assert looked(found, clock, 3, waiting=True) == 500, "it did not wait all the time"


def test_while_something_waits_all_the_time_it_is_what_was_done(clock: Clock) -> None:
    found = Pace()
    looked(found, clock, 3, waiting=True)
    assert looked(found, clock, 600, waiting=True) == 300
    for _ in range(30):
        now = looked(found, clock, 200, waiting=True)
    assert now == pytest.approx(100, rel=0.01)
    assert looked(found, clock, 2, waiting=False) == pytest.approx(100, rel=0.01), "an idle worker is not slow"


def test_without_a_worker_there_is_none(clock: Clock) -> None:
    found = Pace()
    looked(found, clock, 3, waiting=True)
    looked(found, clock, 600, waiting=True)
    assert looked(found, clock, 0, waiting=True, promised=0) == 0
    assert looked(found, clock, 0, waiting=True) == 500
