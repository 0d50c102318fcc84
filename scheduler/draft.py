"""A micro-batch in the making: what it holds, and whether more goes in."""

from dataclasses import dataclass, field
from enum import Enum, auto

from scheduler.queue import Waiting


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold. One sequence is always let in, however long."""

    tokens: int
    sequences: int


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
    closed: bool = False

    def offer(self, item: Waiting) -> Offer:
        """Takes an item in if it may."""
        alone = item.attempts > 0
        if alone and self.batch:
            self.closed = True
            return Offer.MUST_GO_ALONE
        if self.batch and self.tokens + item.tokens > self.budget.tokens:
            return Offer.NO_ROOM
        self.batch.append(item)
        self.tokens += item.tokens
        full = self.tokens >= self.budget.tokens or len(self.batch) >= self.budget.sequences
        self.closed = alone or full
        return Offer.TAKEN
