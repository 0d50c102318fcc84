"""One chunk, from its range of the input to a part file and a line for the ledger."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from api.bulk.asking import Questions, questions_of, refused
from api.bulk.chunking import Chunk, read_chunk
from api.bulk.client import Entry, RowsClient
from api.bulk.ledger import ChunkResult
from api.bulk.pacing import CALLS_AT_ONCE, Pace
from api.bulk.rows import BadRow
from api.bulk.shapes import Shape
from api.bulk.statistics import Statistics
from api.bulk.storage import writing
from api.bulk.writing import OutputFormat, part_writer


@dataclass(frozen=True)
class ChunkRun:
    """Everything that it takes to run any chunk of a backfill.

    Attributes:
        parts: the folder for what comes of it.
        output_format: jsonl or parquet.
        pace: how much is on its way at once; what one chunk has taught it holds for the next.
        done: is told how many further rows of this chunk have their answers.
    """

    client: RowsClient
    shape: Shape
    parts: Path
    output_format: OutputFormat
    pace: Pace
    done: Callable[[int], None] = lambda _: None

    async def run(self, chunk: Chunk, name: str) -> ChunkResult:
        """Runs a chunk and writes its files under this name, which no other run has.

        Raises:
            BulkError: the input has changed, the server refuses, or the disk is full.
        """
        questions = await asyncio.to_thread(lambda: questions_of(read_chunk(chunk), self.shape))
        entries = await self._answers(questions)
        return await asyncio.to_thread(self._written, chunk, name, questions, entries)

    async def _answers(self, questions: Questions) -> list[Entry]:
        """An entry for each request."""
        entries: list[Entry] = [{}] * len(questions.requests)
        room = asyncio.Semaphore(CALLS_AT_ONCE)
        time = asyncio.get_running_loop().time
        rows_of_a_request = len(questions.rows) / max(1, len(questions.requests))

        async def ask(call: Sequence[int]) -> None:
            try:
                began = time()
                found = await self.client.entries([questions.requests[number] for number in call])
                self.pace.answered(time() - began)
            finally:
                room.release()
            for number, entry in zip(call, found, strict=True):
                entries[number] = entry
            self.done(int(len(call) * rows_of_a_request))

        try:
            async with asyncio.TaskGroup() as group:
                for call in questions.calls(lambda: self.pace.rows_per_call):
                    await room.acquire()
                    group.create_task(ask(call))
        except ExceptionGroup as errors:
            # They are all of one kind, and one is enough to say.
            raise errors.exceptions[0] from None
        return entries

    def _written(self, chunk: Chunk, name: str, questions: Questions, entries: Sequence[Entry]) -> ChunkResult:
        statistics = Statistics()
        bad: list[BadRow] = []
        counted: set[int] = set()
        part = f"{name}.{self.output_format}"
        lists = self.client.pooling in _OF_STEPS
        with part_writer(self.parts / part, self.output_format, input_format=chunk.format) as writer:
            for asked in questions.rows:
                if isinstance(asked, BadRow):
                    bad.append(asked)
                    continue
                found = [entries[number] for number in asked.requests]
                error = refused(asked.row, self.shape, found)
                if error is not None:
                    bad.append(error)
                    continue
                columns = self.shape.columns(asked.row, found, lists=lists)
                writer.write(asked.row, columns)
                tokens = sum(entries[number]["tokens"] for number in asked.requests if number not in counted)
                counted.update(asked.requests)
                statistics.add(self.shape.outcome(asked.row, columns), tokens, asked.duplicate)
        statistics.add_bad(len(bad))
        return ChunkResult(
            part=part,
            errors=self._errors(name, bad),
            rows=statistics.rows,
            bad=statistics.bad,
            duplicates=statistics.duplicates,
            statistics=statistics.encode(),
        )

    def _errors(self, name: str, bad: Sequence[BadRow]) -> str | None:
        """The file of the bad rows; None where there are none."""
        if not bad:
            return None
        path = self.parts / f"{name}.errors"
        with writing(str(path)):
            path.write_bytes(b"".join(error_line(each) for each in bad))
        return path.name


def error_line(bad: BadRow) -> bytes:
    """A bad row as a line of the errors file."""
    line = {"file": bad.file, "line": bad.number, "column": bad.column, "reason": bad.reason}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


_OF_STEPS = ("STEP", "ALL")
"""Kinds of pooling whose scores are lists, also where a row has one step."""
