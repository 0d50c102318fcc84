"""What an executor is told: where its backfill's files, ledger and server are, and how its rows are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from api.bulk.chunking import Chunk, read_chunk
from api.bulk.client import Endpoint
from api.bulk.rows import BadRow, Row
from api.bulk.shapes import Overrides, Shape, shape_of
from api.bulk.writing import OutputFormat

TASK_VARIABLE = "MILLPOND_BACKFILL"
KEY_VARIABLE = "MILLPOND_BACKFILL_KEY"

SHAPE_ROWS = 50
"""So many rows of each sample are looked at to find how rows are read."""


@dataclass(frozen=True)
class BackfillTask:
    """All that the chunks of a backfill have in common.

    Attributes:
        backfill_id: names its queue, and its keys where the ledger is shared.
        folder: its work directory.
        shared_ledger: the Redis URL of its ledger; None where that is a file in its folder.
        broker_url: of the Redis that carries Celery.
        server: URL of the server.
        kind: score, embed or rerank.
        call: the fields of each call beside its rows.
        overrides: how rows are read, where the user said so; fields of `Overrides`.
        samples: `Chunk.encode` of the chunks that the shape of the rows is taken from.
        output_format: jsonl or parquet.
        key: with which the server lets in; not among the rest, as it is not written anywhere.
    """

    backfill_id: str
    folder: Path
    shared_ledger: str | None
    broker_url: str
    server: str
    kind: str
    call: Mapping[str, Any]
    overrides: Mapping[str, Any]
    samples: Sequence[str]
    output_format: OutputFormat
    key: str | None = field(repr=False)

    @property
    def parts(self) -> Path:
        """The folder of what came of the chunks."""
        return self.folder / PARTS

    @property
    def endpoint(self) -> Endpoint:
        """Where the rows are scored."""
        return Endpoint(self.server, self.key)

    def shape(self) -> Shape:
        """How the rows are read; raises BulkError where that cannot be told."""
        return shape_of(self.kind, first_rows(self.samples), Overrides(**self.overrides))

    def environment(self) -> dict[str, str]:
        """As variables for an executor."""
        told = {**asdict(self), "folder": str(self.folder)}
        key = told.pop("key")
        return {TASK_VARIABLE: json.dumps(told), KEY_VARIABLE: key or ""}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """What `environment` gave."""
        told = json.loads(environment[TASK_VARIABLE])
        return cls(**{**told, "folder": Path(told["folder"])}, key=environment[KEY_VARIABLE] or None)


PARTS = "parts"


def first_rows(samples: Sequence[str]) -> list[Row]:
    """The first good rows of some chunks."""
    return [
        row
        for sample in samples
        for row in islice(read_chunk(Chunk.decode(sample)), SHAPE_ROWS)
        if not isinstance(row, BadRow)
    ]
