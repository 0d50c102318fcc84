"""The end of a backfill: the parts become the output, the bad rows a file beside it, and the summary is made."""

import asyncio
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from api.bulk.errors import BulkError
from api.bulk.ledger import END, ChunkResult, Ledger
from api.bulk.statistics import Statistics
from api.bulk.stopping import Stop
from api.bulk.storage import filesystem, reading, writing
from api.bulk.workspace import ERRORS_SUFFIX, Workspace
from api.bulk.writing import OutputFormat, join_parts

LEASE_SECONDS, RENEWAL_SECONDS, ASKING_SECONDS = 20.0, 4.0, 0.5
"""Of several machines one joins: for so long without a sign from it the others leave that to it."""


@dataclass(frozen=True)
class Joining:
    """How a backfill ends.

    Attributes:
        chunks: how many there are; all are done.
        output: path or URL.
    """

    ledger: Ledger
    workspace: Workspace
    chunks: int
    output: str
    output_format: OutputFormat

    def finished(self) -> Statistics | None:
        """The statistics of a backfill whose output is written; None before."""
        result = self.ledger.result(END)
        return Statistics.decode(result.statistics) if result else None

    def check_output(self) -> None:
        """Raises BulkError where the output of a finished backfill is gone."""
        system, name = filesystem(self.output)
        with reading(self.output):
            if not system.exists(name):
                raise BulkError(f"{self.output} was written, and is gone: give --restart to make it anew.")

    async def run(self, stop: Stop) -> Statistics:
        """Writes the output, or waits until another machine has; the statistics of all rows.

        Raises:
            BulkError: it cannot be written.
            Interrupted: the command was told to stop.
        """
        token = uuid.uuid4().hex
        while await asyncio.to_thread(self.ledger.claim, END, token, LEASE_SECONDS) is None:
            found = await asyncio.to_thread(self.finished)
            if found is not None:
                return found
            await stop.unless(asyncio.sleep(ASKING_SECONDS))
        with self._renewing(token):
            try:
                statistics = await stop.unless_in_thread(lambda: self._joined(stop))
            except BaseException:
                await asyncio.to_thread(self.ledger.release, END, token)
                raise
        result = ChunkResult(
            part=self.output,
            errors=self.output + ERRORS_SUFFIX if statistics.bad else None,
            rows=statistics.rows,
            bad=statistics.bad,
            duplicates=statistics.duplicates,
            statistics=statistics.encode(),
        )
        await asyncio.to_thread(self.ledger.commit, END, result)
        await asyncio.to_thread(self.workspace.finish)
        return statistics

    def _joined(self, stop: Stop) -> Statistics:
        statistics = Statistics()
        with self._bad_rows_beside() as errors:
            parts = []
            for result in self._results():
                stop.check()
                statistics.merge(Statistics.decode(result.statistics))
                if result.errors is not None:
                    with (self.workspace.parts / result.errors).open("rb") as found:
                        shutil.copyfileobj(found, errors)
                parts.append(self.workspace.parts / result.part)
        join_parts(_Parts(parts, stop), self.output, self.output_format)
        self._put_errors(statistics.bad)
        return statistics

    def _results(self) -> Iterator[ChunkResult]:
        for number in range(self.chunks):
            result = self.ledger.result(number)
            assert result is not None, number
            yield result

    @property
    def _errors_here(self) -> Path:
        return self.workspace.folder / "errors.jsonl"

    @contextmanager
    def _bad_rows_beside(self) -> Iterator[BinaryIO]:
        with writing(str(self._errors_here)), self._errors_here.open("wb") as file:
            yield file

    def _put_errors(self, bad: int) -> None:
        """The bad rows under their final name; none of an earlier run is left."""
        target = self.output + ERRORS_SUFFIX
        system, name = filesystem(target)
        with writing(target):
            if bad:
                made = f"{name}.{uuid.uuid4().hex}"
                system.put_file(str(self._errors_here), made)
                system.mv(made, name)
            elif system.exists(name):
                system.rm_file(name)
            self._errors_here.unlink()

    @contextmanager
    def _renewing(self, token: str) -> Iterator[None]:
        over = threading.Event()

        def renew() -> None:
            while not over.wait(RENEWAL_SECONDS) and self.ledger.renew(END, token, LEASE_SECONDS):
                pass

        threading.Thread(target=renew, name="renewal", daemon=True).start()
        try:
            yield
        finally:
            over.set()


class _Parts(Sequence[Path]):
    """Parts whose reader is interrupted when the command is told to stop."""

    def __init__(self, parts: Sequence[Path], stop: Stop) -> None:
        self._parts = parts
        self._stop = stop

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        self._stop.check()
        return self._parts[index]
