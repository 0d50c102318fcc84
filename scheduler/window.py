"""What a leader holds in memory of its model's lanes: the items at their front, and what the policy makes of them."""

from collections import OrderedDict
from collections.abc import Iterable

from scheduler.keys import LANES
from scheduler.messages import Entry
from scheduler.policy import Budget, next_batch
from scheduler.queue import Waiting

WINDOW = 4_096
"""Items of a lane held in memory at once. The rest waits in Redis, where it costs this process nothing."""


class Window:
    """The waiting items of all lanes that were read and not yet sent."""

    def __init__(self) -> None:
        self._lanes: dict[int, OrderedDict[Entry, Waiting]] = {number: OrderedDict() for number in range(len(LANES))}
        self._prioritized = dict.fromkeys(self._lanes, 0)
        self._next_deadline_ms: int | None = None  # no item's deadline is earlier; perhaps none is at it any more

    def lanes_with_room(self) -> list[int]:
        """The numbers of the lanes of which more may be read."""
        return [number for number, held in self._lanes.items() if len(held) < WINDOW]

    def add(self, found: Iterable[Waiting]) -> None:
        """Takes in what was read."""
        for waiting in found:
            self._lanes[waiting.entry.lane][waiting.entry] = waiting
            if waiting.priority:
                self._prioritized[waiting.entry.lane] += 1
            if waiting.deadline_ms and (self._next_deadline_ms or waiting.deadline_ms) >= waiting.deadline_ms:
                self._next_deadline_ms = waiting.deadline_ms

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forgets entries that wait no more; those that were forgotten before make no difference."""
        for entry in entries:
            waiting = self._lanes[entry.lane].pop(entry, None)
            if waiting is not None and waiting.priority:
                self._prioritized[entry.lane] -= 1

    def next_batch(self, budget: Budget, now_ms: int) -> list[Waiting]:
        """The items of the next micro-batch, empty when nothing waits; they stay in the window until removed."""
        prioritized = [number for number, count in self._prioritized.items() if count]
        return next_batch({n: held.values() for n, held in self._lanes.items()}, budget, now_ms, prioritized)

    def expired(self, now_ms: int) -> list[Entry]:
        """The items whose deadline has passed. The window is looked through only when there may be one."""
        if self._next_deadline_ms is None or now_ms < self._next_deadline_ms:
            return []
        dated = [waiting for held in self._lanes.values() for waiting in held.values() if waiting.deadline_ms]
        self._next_deadline_ms = min((waiting.deadline_ms for waiting in dated), default=None)
        return [waiting.entry for waiting in dated if waiting.deadline_ms <= now_ms]
