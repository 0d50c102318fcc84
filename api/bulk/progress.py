"""How far a bulk command has come: one line that is redrawn on a terminal, plain lines now and then elsewhere.

It is written here and not taken from tqdm or rich: they draw a bar, which is ten lines below, but have no plain lines
for a log (tqdm writes its carriage returns there, rich nothing before the end), and what stands beside the bar,
failures, queue depth and what is waited for, would be put together here all the same.
"""

import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

WINDOW_SECONDS = 60.0
"""The rate is that of the last minute."""

_LEAST_SECONDS = 1.0

REDRAW_SECONDS = 0.2
PLAIN_SECONDS = 10.0
PLAIN_TENTHS = 10
_SMALLEST_BAR = 10
_LARGEST_BAR = 40


class Progress:
    """The progress of one run; not to be used by two threads at once.

    Args:
        total_rows: in all, those of earlier runs included.
        stream: where it is written: a terminal, or anything else.
        now: a clock in seconds.
        done_before: rows that earlier runs finished: they count as done and not into the rate.
        columns: of the terminal; asked again before each line, since windows change.
    """

    def __init__(
        self,
        total_rows: int,
        stream: TextIO,
        now: Callable[[], float] = time.monotonic,
        *,
        done_before: int = 0,
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._total = total_rows
        self._stream = stream
        self._now = now
        self._columns = columns
        self._terminal = stream.isatty()
        self._began = now()
        self._done = done_before
        # From the first update on: until then servers start, which is nothing that goes on.
        self._marks: deque[tuple[float, int]] = deque()
        self._done_before = done_before
        self._written = -1.0
        self._tenth = self._tenths()
        self._drawn = ""
        self._parts: list[str] = []
        self._logged: list[str] = []

    def update(
        self, done: int, failed: int, duplicates: int, queue_depth: int | None, waiting_for: str | None = None
    ) -> None:
        """Tells where things are; written at most five times a second, or where it is no terminal every ten seconds.

        Args:
            done: rows finished in all, the bad ones and those of earlier runs included.
            failed: of them, the bad ones.
            duplicates: of them, those answered from an identical row.
            queue_depth: items that wait in the lane; None where that is not known.
            waiting_for: why nothing moves, in a few words, such as "the server at http://..."; None when it does.
        """
        now = self._now()
        self._done = done
        self._mark(now)
        self._parts = self._described(failed, duplicates, queue_depth, waiting_for)
        if self._due(now):
            self._write(now)

    def note(self, line: str) -> None:
        """Writes a line that stays, above the bar where there is one."""
        if self._drawn:
            self._stream.write("\r" + " " * min(len(self._drawn), self._columns() - 1) + "\r")
            self._drawn = ""
        self._stream.write(line + "\n")
        if self._terminal and self._parts:
            self._redraw()
        self._stream.flush()

    def close(self) -> None:
        """Writes the last state once more and leaves the line; what comes next begins a new one."""
        if self._parts and (self._terminal or self._parts != self._logged):
            self._write(self._now())
        if self._drawn:
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = ""
        self._parts = []

    @property
    def rate(self) -> float:
        """Rows a second over the last minute, or since the first update; 0 in the first second after it."""
        if not self._marks:
            return 0.0
        (first, before), (last, done) = self._marks[0], self._marks[-1]
        return (done - before) / (last - first) if last - first >= _LEAST_SECONDS else 0.0

    def _mark(self, now: float) -> None:
        """Keeps a mark a second, and the one that the window begins with."""
        if not self._marks:
            self._marks.append((now, self._done_before))
        if len(self._marks) > 1 and now - self._marks[-2][0] < 1.0:
            self._marks.pop()
        self._marks.append((now, self._done))
        while len(self._marks) > 2 and self._marks[1][0] <= now - WINDOW_SECONDS:
            self._marks.popleft()

    def _due(self, now: float) -> bool:
        if self._terminal:
            return self._written < 0 or now - self._written >= REDRAW_SECONDS
        return self._tenths() > self._tenth or now - max(self._written, self._began) >= PLAIN_SECONDS

    def _write(self, now: float) -> None:
        if self._terminal:
            self._redraw()
        else:
            self._stream.write(", ".join(self._parts) + "\n")
            self._logged = self._parts
        self._stream.flush()
        self._written = now
        self._tenth = self._tenths()

    def _redraw(self) -> None:
        """As many parts as fit, with a bar in what room they leave, over the line that is there."""
        width = max(1, self._columns() - 1)  # a full last column would begin a new line
        line = self._parts[0][:width]
        for part in self._parts[1:]:
            if len(line) + 2 + len(part) > width:
                break
            line += f", {part}"
        room = min(_LARGEST_BAR, width - len(line) - 3)
        if room >= _SMALLEST_BAR:
            filled = int(self._share() * room)
            line = f"[{'#' * filled}{'.' * (room - filled)}] {line}"
        self._stream.write("\r" + line.ljust(min(len(self._drawn), width)))
        self._drawn = line

    def _described(self, failed: int, duplicates: int, queue_depth: int | None, waiting_for: str | None) -> list[str]:
        parts = [f"{int(self._share() * 100):3d}% {self._done:,} of {self._total:,} rows"]
        if waiting_for is not None:
            parts.append(f"waiting for {waiting_for}")
        else:
            parts += self._pace()
        parts.append(f"{failed:,} failed")
        if queue_depth is not None:
            parts.append(f"{queue_depth:,} queued")
        if duplicates:
            parts.append(f"{duplicates:,} identical")
        return parts

    def _pace(self) -> list[str]:
        """Rate and time left, once there is a second to tell them from."""
        if self._marks[-1][0] - self._marks[0][0] < _LEAST_SECONDS:
            return []
        rate = self.rate
        shown = [f"{rate_shown(rate)} rows/s"]
        if rate > 0 and self._done < self._total:
            shown.append(f"{duration((self._total - self._done) / rate)} left")
        return shown

    def _share(self) -> float:
        return min(1.0, self._done / self._total) if self._total else 1.0

    def _tenths(self) -> int:
        return int(self._share() * PLAIN_TENTHS)


def rate_shown(rate: float) -> str:
    """A rate with as many digits as mean something."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them, in two units: 45 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    whole = max(0, round(seconds))
    units = [(unit, whole // size % limit) for unit, size, limit in _UNITS]
    first = next((place for place, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count) or "0 s"


_UNITS = (("d", 86400, 10**9), ("h", 3600, 24), ("min", 60, 60), ("s", 1, 60))
