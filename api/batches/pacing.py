"""How fast the lines of one owner are sent from this process, so that one who is told to wait holds up no other."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext

LONGEST_PAUSE = 60.0
"""Seconds before a line that came too early is sent again, whatever its reply says."""


class Pace:
    """The turns of one owner's lines.

    Args:
        places: bounds how many lines of all owners run at once in this process.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._concurrency: int | None = None
        self._own: asyncio.Semaphore | None = None
        self._resumes_at = 0.0

    @property
    def is_slow(self) -> bool:
        """Whether its lines wait for its own limits, and not for a place."""
        return self._concurrency is not None or self._seconds_left() > 0

    def allow(self, concurrency: int | None) -> None:
        """Takes over how many calls of the owner may run at once, None as many as there are places."""
        if concurrency != self._concurrency:
            self._concurrency = concurrency
            self._own = asyncio.Semaphore(concurrency) if concurrency is not None else None

    def pause(self, seconds: float) -> None:
        """Sends no line for so long."""
        self._resumes_at = max(self._resumes_at, time.monotonic() + min(seconds, LONGEST_PAUSE))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place, held inside, while the owner is not told to wait."""
        async with self._own or nullcontext():
            while True:
                # The first that was told to wait speaks for those that were about to ask the same.
                await asyncio.sleep(max(0.0, self._seconds_left()))
                async with self._places:
                    if self._seconds_left() <= 0:
                        yield
                        return

    def _seconds_left(self) -> float:
        return self._resumes_at - time.monotonic()


def pause_of(headers: Mapping[str, str]) -> float:
    """Seconds after which a refused call may come again, in whichever of its reply's headers is finer; else one."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        given = headers.get(name, "")
        if given.isascii() and given.isdigit():
            return max(0.01, float(given) / unit)
    return 1.0
