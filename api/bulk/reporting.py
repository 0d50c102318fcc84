"""What executors tell the command that started them: JSON lines in a pipe. Only what a person wants to see now: what is
done stands in the ledger.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REPORT_VARIABLE = "MILLPOND_REPORT_FD"


class Reporter:
    """The executor's end. Each line is written in one piece, so that those of several executors do not mix.

    Args:
        descriptor: of the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Reporter":
        """The pipe that the command left open."""
        return cls(int(environment[REPORT_VARIABLE]))

    def begins(self, chunk: int) -> None:
        """A chunk is begun, from its first row."""
        self._write(kind="begins", chunk=chunk)

    def done(self, chunk: int, rows: int, queue_depth: int | None) -> None:
        """So many further rows of a chunk have their answers."""
        self._write(kind="done", chunk=chunk, rows=rows, depth=queue_depth)

    def ends(self, chunk: int) -> None:
        """A chunk is done, or not run by this process any more."""
        self._write(kind="ends", chunk=chunk)

    def waits(self, what: str | None) -> None:
        """Nothing moves because of this; None: it moves again."""
        self._write(kind="waits", what=what and what[:_LONGEST_TEXT])

    def failed(self, chunk: int, why: str) -> None:
        """A chunk failed in a way that nobody foresaw, and is given back."""
        self._write(kind="failed", chunk=chunk, why=why[:_LONGEST_TEXT])

    def stop(self, reason: str) -> None:
        """The backfill cannot go on."""
        self._write(kind="stop", reason=reason[:_LONGEST_TEXT])

    def _write(self, **said: Any) -> None:
        line = json.dumps({"process": os.getpid(), **said}, ensure_ascii=True)
        os.write(self._descriptor, line.encode() + b"\n")


_LONGEST_TEXT = 500
"""Characters, at most six bytes each as JSON writes them: with them a line stays within PIPE_BUF, 4,096 bytes."""

MOST_FAILURES = 3
"""Of one chunk, until the command gives up."""

STALE_SECONDS = 60.0
"""An executor that waits says so at each attempt. One that has not for so long is gone."""


@dataclass
class Reports:
    """The command's end: what all executors have said, as it matters now.

    Attributes:
        reason: why the backfill cannot go on; None while it can.
        queue_depth: of the lane, as last seen.
    """

    reason: str | None = None
    queue_depth: int | None = None
    _running: dict[int, int] = field(default_factory=dict)
    _waiting: dict[int, tuple[str, float]] = field(default_factory=dict)
    _failures: dict[int, int] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """Takes in what an executor said."""
        said = json.loads(line)
        match said["kind"]:
            case "begins":
                self._running[said["chunk"]] = 0
            case "done":
                self._running[said["chunk"]] = self._running.get(said["chunk"], 0) + said["rows"]
                self.queue_depth = said["depth"]
            case "ends":
                self._running.pop(said["chunk"], None)
            case "waits" if said["what"] is None:
                self._waiting.pop(said["process"], None)
            case "waits":
                self._waiting[said["process"]] = said["what"], time.monotonic()
            case "failed":
                self._failed(said["chunk"], said["why"])
            case "stop":
                self.reason = self.reason or said["reason"]

    def _failed(self, chunk: int, why: str) -> None:
        self._failures[chunk] = self._failures.get(chunk, 0) + 1
        if self._failures[chunk] >= MOST_FAILURES:
            self.reason = (
                f"Chunk {chunk} failed {MOST_FAILURES} times, the last time by {why}: executors.log says more."
            )

    @property
    def waiting_for(self) -> str | None:
        """What an executor waits for; None where none does."""
        since = time.monotonic() - STALE_SECONDS
        return next((what for what, at in self._waiting.values() if at > since), None)

    @property
    def running_rows(self) -> int:
        """Rows with answers in chunks that are not done."""
        return sum(self._running.values())
