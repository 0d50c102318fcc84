"""An owner that is told to wait waits, and holds up nobody else."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from api.batches.pacing import LONGEST_PAUSE, Pace, pause_of


def test_whoever_waits_for_its_own_limits_takes_no_place() -> None:
    async def run() -> None:
        places = asyncio.Semaphore(1)
        slow, other = Pace(places), Pace(places)
        slow.pause(30.0)
        waiting = asyncio.create_task(_turn(slow))
        assert slow.is_slow
        async with asyncio.timeout(5):
            await _turn(other)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(run())


def test_a_pause_ends_and_turns_go_on() -> None:
    async def run() -> float:
        pace, began = Pace(asyncio.Semaphore(4)), time.monotonic()
        pace.pause(0.1)
        await asyncio.gather(*(_turn(pace) for _ in range(8)))
        assert not pace.is_slow
        return time.monotonic() - began

    assert asyncio.run(run()) >= 0.1


def test_who_was_about_to_go_waits_too_when_another_is_told_to() -> None:
    async def run() -> bool:
        places = asyncio.Semaphore(1)
        pace = Pace(places)
        async with pace.turn():
            queued = asyncio.create_task(_turn(pace))
            await asyncio.sleep(0)
            pace.pause(30.0)
        done, _ = await asyncio.wait((queued,), timeout=0.1)
        queued.cancel()
        return bool(done) or places.locked()

    assert not asyncio.run(run())


def test_no_more_lines_run_than_calls_of_the_owner_may() -> None:
    async def run() -> int:
        pace = Pace(asyncio.Semaphore(64))
        pace.allow(2)
        assert pace.is_slow
        running = most = 0

        async def call() -> None:
            nonlocal running, most
            async with pace.turn():
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(call() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, 1.0),
        ({}, 1.0),
        ({"retry-after-ms": "0"}, 0.01),
    ],
)
def test_a_refusal_says_when_to_come_again(headers: Mapping[str, str], seconds: float) -> None:
    assert pause_of(headers) == seconds


def test_no_refusal_holds_up_an_owner_for_ever() -> None:
    pace = Pace(asyncio.Semaphore(1))
    pace.pause(float("9" * 300))
    assert pace._seconds_left() <= LONGEST_PAUSE


async def _turn(pace: Pace) -> None:
    async with pace.turn():
        pass
