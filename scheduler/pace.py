"""How many tokens a model's workers do in a second, all together: by it callers are told when there will be room.

While something waits all the time, it is what was done in that time. Before there was such a time it is what the
workers' costs promise, without what lies around their forwards.
"""

import time

from redis.asyncio import Redis

from scheduler.keys import ModelKeys

PACE_TTL_MS = 5_000
"""A pace that was not heard of for so long is not known: there is no leader, or no worker."""

KEPT = 0.8
"""How much of what was known is kept at each look."""


class Pace:
    """What a leader sees of it."""

    def __init__(self) -> None:
        self._tokens = 0
        self._looked = time.monotonic()
        self._waited = False
        self._busy: float | None = None

    def done(self, tokens: int) -> None:
        """So many tokens have been done."""
        self._tokens += tokens

    def look(self, *, waiting: bool, promised: float) -> float:
        """Tokens a second; called again and again.

        Args:
            waiting: whether something waits at this moment.
            promised: what the workers' costs promise, in tokens a second; 0 where there is no worker.
        """
        now = time.monotonic()
        tokens, seconds = self._tokens, now - self._looked
        self._tokens, self._looked = 0, now
        if promised == 0:
            self._busy = None
        elif waiting and self._waited and seconds > 0:
            measured = tokens / seconds
            self._busy = measured if self._busy is None else KEPT * self._busy + (1 - KEPT) * measured
        self._waited = waiting and promised > 0
        return promised if self._busy is None else self._busy


async def publish(redis: Redis, keys: ModelKeys, tokens_per_second: float, batch_seconds: float) -> None:
    """Lets the steps that accept requests know.

    Args:
        batch_seconds: what a full batch takes.
    """
    if tokens_per_second >= 1:
        await redis.set(keys.pace, f"{tokens_per_second:.0f} {batch_seconds * 1000:.0f}", px=PACE_TTL_MS)
