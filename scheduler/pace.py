"""How many tokens a model's workers do in a second, all together: by it callers are told when there will be room.

While no slot was ever free for want of work, it is what was done in that time. When the workers have waited for work it
moves to what their costs promise, less what lies around their forwards: how much of the promise was kept, it has seen
while there was always work.
"""

import time

from redis.asyncio import Redis

from scheduler.keys import ModelKeys

PACE_TTL_MS = 5_000
"""A pace that was not heard of for so long is not known: there is no leader, or no worker."""

KEPT = 0.8
"""How much of what was known is kept at each look."""

FIRST_SHARE, LEAST_SHARE = 0.75, 0.6
"""Of what costs promise: what is taken to be kept before it was seen, and the least that it is ever taken for, since a
pace that is far too low turns away the very calls by which it would be seen to be wrong."""


class Pace:
    """What a leader sees of it."""

    def __init__(self) -> None:
        self._tokens = 0
        self._looked = time.monotonic()
        self._idled = True
        self._known = 0.0
        self._share = FIRST_SHARE

    def done(self, tokens: int) -> None:
        """So many tokens have been done."""
        self._tokens += tokens

    def idled(self) -> None:
        """A slot was free, and nothing waited for it."""
        self._idled = True

    def look(self, promised: float) -> float:
        """Tokens a second; called again and again.

        Args:
            promised: what the workers' costs promise, in tokens a second; 0 where there is no worker.
        """
        now = time.monotonic()
        tokens, seconds, idled = self._tokens, now - self._looked, self._idled
        self._tokens, self._looked, self._idled = 0, now, False
        measured = not idled and seconds > 0 and promised > 0
        if measured:
            share = max(LEAST_SHARE, min(1.0, tokens / seconds / promised))
            self._share = KEPT * self._share + (1 - KEPT) * share
        seen = tokens / seconds if measured else self._share * promised
        if promised == 0 or self._known == 0:
            self._known = self._share * promised
        else:
            self._known = KEPT * self._known + (1 - KEPT) * seen
        return self._known


async def publish(redis: Redis, keys: ModelKeys, tokens_per_second: float, batch_seconds: float) -> None:
    """Lets the steps that accept requests know.

    Args:
        batch_seconds: what a full batch takes.
    """
    if tokens_per_second >= 1:
        await redis.set(keys.pace, f"{tokens_per_second:.0f} {batch_seconds * 1000:.0f}", px=PACE_TTL_MS)
