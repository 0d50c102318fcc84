"""Items of like length together: what of a tenant's bulk goes into one micro-batch, where not all of it does.

An engine computes sequences of one length without padding, and those of many lengths piece by piece. The item whose
turn it is comes first all the same, so none waits for more batches than there are items before it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

from scheduler.queue import Waiting

LOOK_AHEAD = 128
"""Items among which those of like length are looked for. With four times as many batches are hardly quicker
(docs/performance.md)."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Items in the order of service, but behind the first those nearest to it in length, of the same priority."""

    items: Iterable[Waiting]
    """They can be gone through again and again."""

    def __iter__(self) -> Iterator[Waiting]:
        items = list(islice(self.items, 1 + LOOK_AHEAD))
        if not items:
            return
        first = items[0]
        # One that must go alone ends a batch, so it does not come before its turn.
        ahead = list(takewhile(lambda item: item.priority == first.priority and not item.attempts, items[1:]))
        yield first
        yield from sorted(ahead, key=lambda item: abs(item.tokens - first.tokens))
        yield from islice(self.items, 1 + len(ahead), None)
