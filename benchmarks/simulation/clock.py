"""Virtual time: what happens next happens at once, and who does one thing after the other has a desk."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable

Happening = Callable[[], None]
Job = Callable[[], tuple[float, Happening]]
"""Begins a piece of work: the seconds that it takes, and what happens when it is done."""


class Clock:
    """Lets things happen in the order of their time; those of one moment in the order in which they were arranged.

    Attributes:
        now: seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._ahead: list[tuple[float, int, Happening]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, happening: Happening) -> None:
        """Arranges something."""
        heapq.heappush(self._ahead, (self.now + seconds, next(self._numbers), happening))

    def run(self) -> None:
        """Until nothing is arranged any more."""
        while self._ahead:
            self.now, _, happening = heapq.heappop(self._ahead)
            happening()


class Desk:
    """Does one job after the other, in the order in which they come.

    Attributes:
        busy_seconds: for how long it has worked.
    """

    def __init__(self, clock: Clock) -> None:
        self.busy_seconds = 0.0
        self._clock = clock
        self._line: deque[Job] = deque()
        self._busy = False

    def submit(self, job: Job) -> None:
        """Takes a job on."""
        self._line.append(job)
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        seconds, then = self._line.popleft()()
        self.busy_seconds += seconds

        def done() -> None:
            then()
            self._busy = False
            if self._line:
                self._begin()

        self._clock.after(seconds, done)
