"""The loop of the command: keeps the executors in messages, shows how far things are, and sees what ends the run."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from api.bulk.carrier import Carrier
from api.bulk.errors import BulkError
from api.bulk.ledger import Ledger, Totals
from api.bulk.planning import Plan
from api.bulk.progress import Progress
from api.bulk.reporting import Reports

log = logging.getLogger(__name__)

TICK_SECONDS, QUICK_TICK_SECONDS = 0.2, 0.05
"""Between two looks; the shorter where the executors had fetched everything, and may be waiting."""

UNCLAIMED_SECONDS = 3.0
"""A chunk that was sent, is in no queue any more and was not claimed for so long is sent again."""

MESSAGES_PER_EXECUTOR = 2


@dataclass
class Coordinator:
    """Sees a backfill through, until all of its chunks are done.

    Attributes:
        executors: how many this machine has.
        reports: what they say.
        max_errors: more bad rows than this end the run; None: none do.
    """

    ledger: Ledger
    carrier: Carrier
    plan: Plan
    executors: int
    reports: Reports
    progress: Progress
    max_errors: int | None
    _sent: dict[int, float] = field(default_factory=dict)
    _broker_is_away: bool = False
    _shown: int = 0

    async def run(self) -> Totals:
        """Returns when every chunk is done.

        Raises:
            BulkError: the run cannot or should not go on.
        """
        while True:
            totals = await asyncio.to_thread(self.ledger.totals)
            self._show(totals)
            if totals.done >= self.plan.chunks:
                return totals
            if self.reports.reason:
                raise BulkError(self.reports.reason)
            if self.max_errors is not None and totals.bad > self.max_errors:
                raise BulkError(
                    f"Bad rows so far: {totals.bad:,}, more than --max-errors {self.max_errors:,} allows. Correct them "
                    "and give --restart, or go on with a higher --max-errors."
                )
            await asyncio.sleep(QUICK_TICK_SECONDS if await self._fill() else TICK_SECONDS)

    async def _fill(self) -> bool:
        """Sends what is open, so many messages that no executor waits for one, and no more. Whether none was left."""
        wanted = MESSAGES_PER_EXECUTOR * self.executors
        was_empty = False
        try:
            waiting = await asyncio.to_thread(self.carrier.waiting)
            room, was_empty = wanted - waiting, waiting == 0
            if room > 0:
                # Some of those that are open were sent just now, and are about to be claimed.
                for number in await asyncio.to_thread(self.ledger.open_chunks, 2 * wanted):
                    if room > 0 and self._is_due(number):
                        await asyncio.to_thread(self.carrier.send, number)
                        self._sent[number] = time.monotonic()
                        room -= 1
        except (RedisError, KombuError, OSError) as error:
            if not self._broker_is_away:
                log.info("the broker is away: %s", error)
            self._broker_is_away = True
        else:
            self._broker_is_away = False
        return was_empty

    def _is_due(self, number: int) -> bool:
        now = time.monotonic()
        self._sent = {each: at for each, at in self._sent.items() if now - at < UNCLAIMED_SECONDS}
        return number not in self._sent

    def _show(self, totals: Totals) -> None:
        self._shown = min(self.plan.rows, max(self._shown, totals.rows + self.reports.running_rows))
        waiting_for = self.reports.waiting_for or ("the broker" if self._broker_is_away else None)
        self.progress.update(self._shown, totals.bad, totals.duplicates, self.reports.queue_depth, waiting_for)
