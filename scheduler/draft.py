"""A micro-batch in the making: what it holds, and whether more goes in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from scheduler.queue import Waiting


def no_time(_tokens: int, _squares: int) -> float:
    """The seconds of a batch on a worker of which nothing is known."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold. One sequence is always let in, however long.

    Attributes:
        brief_seconds: what one with items of the lanes below the first may take: for so long an interactive caller who
            comes now will wait. None: nobody does.
        cost: the seconds of a batch on this worker, from its tokens and the sum of its squared lengths.
        pressing_ms: items whose deadline is earlier may miss it unless they are in this batch. None: nothing presses.
    """

    tokens: int
    sequences: int
    brief_seconds: float | None = None
    cost: Callable[[int, int], float] = no_time
    pressing_ms: int | None = None

    def presses(self, item: Waiting) -> bool:
        """Whether an item may miss its deadline unless it is in this batch."""
        return self.pressing_ms is not None and 0 < item.deadline_ms < self.pressing_ms


class Offer(Enum):
    """What became of an item that was offered."""

    TAKEN = auto()
    NO_ROOM = auto()
    MUST_GO_ALONE = auto()
    """And the batch has others: it is closed, so that the item can be the next one."""


@dataclass(slots=True)
class Draft:
    """The batch so far.

    Attributes:
        closed: that nothing more goes in.
    """

    budget: Budget
    batch: list[Waiting] = field(default_factory=list)
    tokens: int = 0
    squares: int = 0
    closed: bool = False

    def offer(self, item: Waiting) -> Offer:
        """Takes an item in if it may."""
        alone = item.attempts > 0
        if alone and self.batch:
            self.closed = True
            return Offer.MUST_GO_ALONE
        if self.batch and not self._has_room(item):
            return Offer.NO_ROOM
        self.batch.append(item)
        self.tokens += item.tokens
        self.squares += item.tokens**2
        full = self.tokens >= self.budget.tokens or len(self.batch) >= self.budget.sequences
        self.closed = alone or full
        return Offer.TAKEN

    def _has_room(self, item: Waiting) -> bool:
        tokens, brief = self.tokens + item.tokens, self.budget.brief_seconds
        if tokens > self.budget.tokens:
            return False
        if brief is None or item.entry.lane == 0:
            return True
        return self.budget.cost(tokens, self.squares + item.tokens**2) <= brief
