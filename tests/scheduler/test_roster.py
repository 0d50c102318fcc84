"""Slots: when a worker gets its next batch."""

import pytest

from scheduler.cost import Cost, Sample
from scheduler.messages import Entry
from scheduler.queue import Waiting
from scheduler.roster import LEAD_SECONDS, Roster, Worker


def one_worker() -> tuple[Roster, Worker]:
    """A millisecond a token."""
    cost = Cost.of(Sample(tokens, tokens**2, tokens / 1_000) for tokens in (10, 50, 100, 200) * 3)
    roster = Roster()
    roster.workers["w"] = Worker("w", 2, 2_048, 256, cost)
    return roster, roster.workers["w"]


def batch(tokens: int, lane: int = 2) -> list[Waiting]:
    return [Waiting(Entry(lane, "1-0"), "r", tokens, 0, 0)]


def test_a_late_batch_is_formed_shortly_before_the_worker_is_free() -> None:
    roster, worker = one_worker()
    worker.takes("a", batch(100), now=5.0)
    assert roster.free_slot(5.0, urgent=False, late=False), "others are formed while one runs"
    assert roster.free_slot(5.0, urgent=True, late=True) is None
    assert roster.opens_in(5.0) == pytest.approx(0.1 - LEAD_SECONDS, abs=0.002)
    assert roster.free_slot(5.1, urgent=True, late=True)
    assert roster.opens_in(5.1) is None


def test_a_worker_that_finishes_sooner_or_later_is_expected_anew() -> None:
    roster, worker = one_worker()
    worker.takes("a", batch(100), now=5.0)
    worker.takes("b", batch(50), now=5.0)
    assert roster.opens_in(5.0) is None, "both slots are taken: only the end of a batch helps"
    roster.freed("w", "a", None, now=5.3)
    assert roster.opens_in(5.3) == pytest.approx(0.05 - LEAD_SECONDS, abs=0.002)
    roster.freed("w", "b", None, now=5.31)
    assert roster.free_slot(5.31, urgent=False, late=True)


def test_a_worker_that_is_full_has_one_slot_more_for_who_waits() -> None:
    roster, worker = one_worker()
    for name in ("a", "b"):
        worker.takes(name, batch(100), now=0.0)
    slot = roster.free_slot(0.0, urgent=True, late=True)
    assert slot
    assert slot.express
    worker.takes("c", batch(10, lane=0), now=0.0)
    assert roster.free_slot(0.0, urgent=True, late=True) is None
