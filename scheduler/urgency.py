"""Whether interactive callers have come lately: the batches of other lanes are brief then. Pure: it reads no clock."""

import math
from collections.abc import Iterable

from scheduler.queue import Waiting
from scheduler.settings import URGENT_REMEMBERED_SECONDS


class Urgency:
    """What a leader remembers of interactive callers.

    Args:
        target_seconds: for how long the batches of other lanes may keep them waiting.
    """

    def __init__(self, target_seconds: float) -> None:
        self._target_seconds = target_seconds
        self._seen = -math.inf

    def note(self, found: Iterable[Waiting], now: float) -> None:
        """Takes in what was read from the lanes at this moment, in seconds of a clock that never goes back."""
        if any(waiting.entry.lane == 0 for waiting in found):
            self._seen = now

    def brief_seconds(self, now: float) -> float | None:
        """For how long the batches of the other lanes may run; None while no interactive caller comes."""
        return self._target_seconds if now - self._seen < URGENT_REMEMBERED_SECONDS else None
