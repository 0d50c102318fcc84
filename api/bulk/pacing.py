"""How much of a backfill is on its way at once: enough that no worker waits, and so little that no row waits long.

More would lie in Redis for nothing, keep the calls of slow models open for minutes, and be done twice where the server
dies.
"""

from dataclasses import dataclass

from api.bulk.asking import ROWS_PER_CALL

CALLS_AT_ONCE = 4
"""So that the workers always have the next micro-batches waiting, while replies are read and calls written."""

SHORT_SECONDS, LONG_SECONDS = 1.0, 3.0
"""A call that is answered sooner lets more be on its way, one that is answered later less."""

FEWEST_ROWS, MOST_ROWS = 32, CALLS_AT_ONCE * ROWS_PER_CALL


@dataclass
class Pace:
    """The rows that one executor may have on their way, which follow the time that its calls take.

    Attributes:
        rows: as many as may be on their way now.
    """

    rows: int = FEWEST_ROWS  # it grows within seconds where the server is fast

    @property
    def rows_per_call(self) -> int:
        """A part of them, so that others are on their way while one call is answered."""
        return max(1, min(ROWS_PER_CALL, self.rows // CALLS_AT_ONCE))

    def answered(self, seconds: float) -> None:
        """Learns from a call that took so long."""
        if seconds < SHORT_SECONDS:
            self.rows = min(MOST_ROWS, self.rows * 5 // 4)
        elif seconds > LONG_SECONDS:
            self.rows = max(FEWEST_ROWS, self.rows * 3 // 4)
