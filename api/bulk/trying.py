"""`--dry-run`: what a bulk command would do, told without writing anything but to a temporary directory."""

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from api.bulk.arguments import BulkCommand
from api.bulk.asking import ROWS_PER_CALL, encoded
from api.bulk.chunking import Chunk, read_chunk
from api.bulk.client import RowsClient
from api.bulk.dry_run import SAMPLE_ROWS, DryRun, Sampled
from api.bulk.environment import running
from api.bulk.errors import BulkError
from api.bulk.pacing import CALLS_AT_ONCE
from api.bulk.planning import Plan, planned
from api.bulk.preparing import call_of, model_of, shape_of_rows
from api.bulk.rows import BadRow, Row, RowError
from api.bulk.shapes import Shape
from api.bulk.sources import Source, find_inputs
from api.bulk.stopping import Stop

SHOWN_ROWS = 3
"""Whose prompts are shown."""

SAMPLED_CHUNKS = 20


@dataclass
class Trial:
    """A dry run of a command."""

    command: BulkCommand
    stop: Stop

    async def run(self) -> int:
        """Prints what the run would be like; the exit status.

        Raises:
            BulkError, LaunchError: the run could not begin.
            Interrupted: it was told to stop.
        """
        command = self.command
        sources = await self.stop.unless_in_thread(lambda: find_inputs(command.inputs))
        model = await model_of(command, self.stop)
        with tempfile.TemporaryDirectory(prefix="mp-") as folder:
            chunks = await self.stop.unless_in_thread(lambda: self._chunks(sources, Path(folder)))
            plan = Plan(len(chunks), sum(each.rows for each in chunks), [chunks[0].encode()])
            shape = await self.stop.unless_in_thread(lambda: shape_of_rows(command, plan))
            first = [_sampled(row, shape) for row in islice(read_chunk(chunks[0]), SHOWN_ROWS)]
            sample = await self.stop.unless_in_thread(lambda: list(_sample(chunks, shape)))
            log = Path(folder) / "server.log"
            around = running(command, uuid.uuid4().hex[:12], log, print, self.stop)
            async with around as servers, servers.endpoint.client() as http:
                call = call_of(command, model)
                trial = DryRun(
                    rendering=RowsClient(http, {**call, "render_only": True}),
                    pooling=RowsClient(http, call),
                    shape=shape.description(),
                    total_rows=plan.rows,
                    rows_per_call=ROWS_PER_CALL,
                    calls_at_once=CALLS_AT_ONCE * command.executors,
                )
                await self.stop.unless(_print_all(trial, first, sample))
        return 0

    def _chunks(self, sources: list[Source], spool: Path) -> list[Chunk]:
        found = planned(sources, self.command.chunk_rows, spool, self.stop.for_threads)
        chunks = [Chunk.decode(each.chunk) for each in found]
        if not chunks:
            raise BulkError("The input has no rows: name files that have some.")
        return chunks


async def _print_all(trial: DryRun, first: list[Sampled], sample: list[Sampled]) -> None:
    async for line in trial.lines(first, sample):
        print(line, flush=True)


def _sample(chunks: list[Chunk], shape: Shape) -> Iterator[Sampled]:
    """Rows of chunks from all over the input, from the beginning of each."""
    some = chunks[:: max(1, len(chunks) // SAMPLED_CHUNKS)][:SAMPLED_CHUNKS]
    for chunk in some:
        rows: Iterable[Row | BadRow] = islice(read_chunk(chunk), -(-SAMPLE_ROWS // len(some)))
        yield from (_sampled(row, shape) for row in rows)


def _sampled(row: Row | BadRow, shape: Shape) -> Sampled:
    place = f"{row.file}, row {row.number}"
    if isinstance(row, Row):
        try:
            return Sampled(place, [encoded(each) for each in shape.requests(row)])
        except RowError as error:
            return Sampled(place, problem=str(error))
    return Sampled(place, problem=f"{row.column} {row.reason}" if row.column else row.reason)
