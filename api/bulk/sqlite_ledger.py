"""The ledger of one machine: an SQLite file with a write-ahead log, which the command and its executors share."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from api.bulk.errors import BulkError
from api.bulk.ledger import END, ChunkResult, PlannedChunk, Totals

BUSY_SECONDS = 60.0
"""For another process to end its step, which takes milliseconds; longer where the disk is slow."""

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (only INTEGER PRIMARY KEY CHECK (only = 1), settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    number INTEGER PRIMARY KEY,
    chunk TEXT NOT NULL,        -- as JSON, its digest included
    planned INTEGER NOT NULL,   -- its rows
    token TEXT,                 -- of the claim that holds it
    until REAL,                 -- Unix time at which that claim runs out
    part TEXT,                  -- with this and all that follows it is done
    errors TEXT,
    rows INTEGER,
    bad INTEGER,
    duplicates INTEGER,
    statistics TEXT
);
CREATE INDEX IF NOT EXISTS open ON chunks (number) WHERE part IS NULL;
"""

_RESULT = "part, errors, rows, bad, duplicates, statistics"


class SqliteLedger:
    """A ledger in a file.

    Args:
        path: made where it is not there.
        now: Unix time in seconds.

    Raises:
        BulkError: the file cannot be used.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        with self._told():
            self._database = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            # What is committed survives the death of any process; a loss of power may cost the last chunks, which are
            # then done again.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_TABLES)

    def settings(self, offered: str) -> str:
        """See `Ledger.settings`."""
        with self._step() as database:
            database.execute("INSERT OR IGNORE INTO settings VALUES (1, ?)", (offered,))
            found: str = database.execute("SELECT settings FROM settings").fetchone()[0]
        return found

    def record(self, chunks: Sequence[PlannedChunk]) -> int | None:
        """See `Ledger.record`."""
        with self._step() as database:
            ended = database.execute("SELECT 1 FROM chunks WHERE number = ?", (END,)).fetchone()
            for each in chunks:
                known = database.execute("SELECT chunk FROM chunks WHERE number = ?", (each.number,)).fetchone()
                if known is None and not ended:
                    database.execute(
                        "INSERT INTO chunks (number, chunk, planned) VALUES (?, ?, ?)",
                        (each.number, each.chunk, each.rows),
                    )
                elif known is None or known[0] != each.chunk:
                    return each.number
        return None

    def claim(self, number: int, token: str, seconds: float) -> str | None:
        """See `Ledger.claim`."""
        now = self._now()
        with self._step() as database:
            found = database.execute(
                "UPDATE chunks SET token = ?, until = ? WHERE number = ? AND part IS NULL "
                "AND (token IS NULL OR token = ? OR until <= ?) RETURNING chunk",
                (token, now + seconds, number, token, now),
            ).fetchone()
        return found and str(found[0])

    def renew(self, number: int, token: str, seconds: float) -> bool:
        """See `Ledger.renew`."""
        with self._step() as database:
            changed = database.execute(
                "UPDATE chunks SET until = ? WHERE number = ? AND token = ?", (self._now() + seconds, number, token)
            )
            return changed.rowcount == 1

    def release(self, number: int, token: str) -> bool:
        """See `Ledger.release`."""
        with self._step() as database:
            changed = database.execute(
                "UPDATE chunks SET token = NULL, until = NULL WHERE number = ? AND token = ?", (number, token)
            )
            return changed.rowcount == 1

    def commit(self, number: int, result: ChunkResult) -> bool:
        """See `Ledger.commit`."""
        with self._step() as database:
            changed = database.execute(
                "UPDATE chunks SET token = NULL, until = NULL, part = ?, errors = ?, rows = ?, bad = ?, "
                "duplicates = ?, statistics = ? WHERE number = ? AND part IS NULL",
                (
                    result.part,
                    result.errors,
                    result.rows,
                    result.bad,
                    result.duplicates,
                    result.statistics,
                    number,
                ),
            )
            return changed.rowcount == 1

    def totals(self) -> Totals:
        """See `Ledger.totals`."""
        with self._step() as database:
            found = database.execute(
                "SELECT sum(planned), count(part), sum(rows), sum(bad), sum(duplicates) FROM chunks WHERE number >= 0"
            ).fetchone()
        return Totals(*(each or 0 for each in found))

    def open_chunks(self, limit: int) -> list[int]:
        """See `Ledger.open_chunks`."""
        with self._step() as database:
            found = database.execute(
                "SELECT number FROM chunks WHERE number >= 0 AND part IS NULL AND (token IS NULL OR until <= ?) "
                "ORDER BY number LIMIT ?",
                (self._now(), limit),
            ).fetchall()
        return [number for (number,) in found]

    def result(self, number: int) -> ChunkResult | None:
        """See `Ledger.result`."""
        with self._step() as database:
            found = database.execute(
                f"SELECT {_RESULT} FROM chunks WHERE number = ? AND part IS NOT NULL",  # noqa: S608 - our own words
                (number,),
            ).fetchone()
        return found and ChunkResult(*found)

    def clear(self) -> None:
        """See `Ledger.clear`."""
        with self._step() as database:
            database.execute("DELETE FROM settings")
            database.execute("DELETE FROM chunks")

    def close(self) -> None:
        """See `Ledger.close`."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _step(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which begins with the right to write: a later change of mind could meet another's."""
        with self._lock, self._told():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # A full disk has rolled it back already.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BulkError(
                f"The ledger {self._path} cannot be used: {error}. Make room or correct its rights, and give the same "
                "command again."
            ) from error
