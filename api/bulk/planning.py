"""The plan of a backfill: its settings and its chunks. Every command makes it anew, and compares it with the ledger."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from api.bulk.chunking import Chunk, chunks_of
from api.bulk.errors import BulkError, Interrupted
from api.bulk.ledger import END, Ledger, PlannedChunk
from api.bulk.sources import Source

CHUNKS_PER_STEP = 100

_WORDS = {
    "command": "The command",
    "inputs": "The list of input files",
    "model": "The model (its files or options that change results)",
    "max_model_len": "--max-model-len of the model",
    "call": "An option of how rows are pooled or cut",
    "shape": "An option of how rows are read",
    "chunk_rows": "--chunk-rows",
    "output_format": "--output-format",
}
"""What a setting is towards the user."""


@dataclass(frozen=True)
class Settings:
    """All that the result depends on beside the rows.

    Attributes:
        command: score, embed or rerank.
        inputs: the files, in order.
        model: fingerprint of the model as it is served.
        max_model_len: its longest sequence, in tokens.
        call: the fields of each call beside its rows, but for the model's name.
        shape: how rows are read, where the user said so.
        chunk_rows, output_format: which are in the parts that are done.
    """

    command: str
    inputs: Sequence[str]
    model: str
    max_model_len: int
    call: Mapping[str, Any]
    shape: Mapping[str, Any]
    chunk_rows: int
    output_format: str

    def encode(self) -> str:
        """As JSON, the same for the same settings."""
        return json.dumps({name: getattr(self, name) for name in _WORDS}, sort_keys=True)

    def check_against(self, recorded: str) -> None:
        """Raises BulkError where the backfill began with other settings."""
        before, now = json.loads(recorded), json.loads(self.encode())
        for name, what in _WORDS.items():
            if before.get(name) == now[name]:
                continue
            short = [f"{when} {shown}" for when, shown in (("was", before.get(name)), ("is", now[name]))]
            told = f" ({', '.join(short)})" if sum(map(len, short)) < _LONGEST_SHOWN else ""
            raise BulkError(
                f"{what} is not what this output was begun with{told}: give the command as before, or --restart to "
                "begin anew."
            )


_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        samples: `Chunk.encode` of the first chunk of each file, of the first files.
    """

    chunks: int
    rows: int
    samples: Sequence[str]


MOST_SAMPLES = 20
"""Files whose first rows are looked at before anything is asked; what does not fit later is a bad row."""


def planned(sources: Sequence[Source], chunk_rows: int, spool: Path, stop: threading.Event) -> Iterator[PlannedChunk]:
    """The chunks of all files in order.

    Raises:
        BulkError: a file is unreadable or broken.
        Interrupted: `stop` was set.
    """
    found: Iterator[Chunk] = chain.from_iterable(chunks_of(source, chunk_rows, spool) for source in sources)
    for number, chunk in enumerate(found):
        if stop.is_set():
            raise Interrupted
        yield PlannedChunk(number, chunk.encode(), chunk.rows)


def record(ledger: Ledger, chunks: Iterator[PlannedChunk]) -> Plan:
    """Records a plan, or makes sure that it is the one that is recorded.

    Raises:
        BulkError: it is another one, because the input has changed; or there are no rows.
    """
    samples: list[str] = []
    count = rows = 0
    for some in _batched(chunks):
        if len(samples) < MOST_SAMPLES:
            samples += [each.chunk for each in some if Chunk.decode(each.chunk).first_row == 1]
        count += len(some)
        rows += sum(each.rows for each in some)
        other = ledger.record(some)
        if other is not None:
            changed = Chunk.decode(next(each.chunk for each in some if each.number == other))
            raise BulkError(
                f"{changed.source} has changed since this output was begun, at row {changed.first_row} or soon after: "
                "bring back the file as it was, or give --restart to begin anew."
            )
    if not count:
        raise BulkError("The input has no rows: name files that have some.")
    if ledger.record([PlannedChunk(END, f"after {count} chunks", 0)]) is not None:
        raise BulkError(
            "The input has other rows at its end than when this output was begun: bring back the files as they were, "
            "or give --restart to begin anew."
        )
    return Plan(count, rows, samples[:MOST_SAMPLES])


def _batched(chunks: Iterator[PlannedChunk]) -> Iterator[list[PlannedChunk]]:
    some: list[PlannedChunk] = []
    for each in chunks:
        some.append(each)
        if len(some) == CHUNKS_PER_STEP:
            yield some
            some = []
    if some:
        yield some
