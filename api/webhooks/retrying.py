"""When a webhook that was not taken is sent again, and when no more."""

import random
from dataclasses import dataclass, field

from scheduler.webhooks import Rest

HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The pauses between attempts of a webhook, and between those to reach a receiver.

    Attributes:
        pauses: seconds after each attempt that failed; after one more than there are pauses, a webhook is given up.
        longest_wish: seconds for which a receiver may be left alone at its own wish (Retry-After).
        spread: by which share a pause is longer at most, so that what failed together does not come back together.
        rest: of a receiver that was not reached, whatever is due to it.
    """

    pauses: tuple[float, ...] = (5, 30, 120, 600, 1_800, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 8 * HOUR)
    longest_wish: float = HOUR
    spread: float = 0.1
    rest: Rest = field(default_factory=lambda: Rest(first=1.0, longest=60.0))

    def pause(self, failed: int, wished: float | None) -> float | None:
        """Seconds until the next attempt; None: there is none.

        Args:
            failed: how many attempts have failed, one at least.
            wished: seconds that the receiver asked for, never less than which is waited, within bounds.
        """
        if failed > len(self.pauses):
            return None
        own = self.pauses[failed - 1] * random.uniform(1, 1 + self.spread)  # noqa: S311 - nothing is kept secret by it
        return max(own, min(wished or 0.0, self.longest_wish))

    @property
    def oldest(self) -> float:
        """Seconds after which a webhook has had its time, even if its receiver was never there to be asked."""
        return sum(self.pauses) * (1 + self.spread) + self.longest_wish
