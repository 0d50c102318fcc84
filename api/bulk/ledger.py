"""The ledger of a backfill: which chunks there are, who holds them, and what came of each.

It alone decides what is done. A chunk is claimed for a limited time under a token, and the claim is renewed while the
chunk runs; a claim that runs out is anybody's. The first commit of a chunk wins. As the part file bears the token of
the claim that wrote it, what a lost claim writes later is a file that nobody reads.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

END = -1
"""The number of the last step, the joining of all parts. It is recorded, claimed and committed like a chunk."""


@dataclass(frozen=True)
class ChunkResult:
    """What came of a chunk.

    Attributes:
        part: the name of the file with its rows.
        errors: the name of the file with its bad rows; None where there are none.
        rows: how many it has, the bad ones included.
        bad: how many of them are bad.
        duplicates: how many of them were answered from an identical one.
        statistics: `Statistics.encode` of them.
    """

    part: str
    errors: str | None
    rows: int
    bad: int
    duplicates: int
    statistics: str

    def encode(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """What `encode` wrote."""
        found: dict[str, Any] = json.loads(text)
        return cls(**found)


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk as it is recorded: its number, in the order of the input from 0; `Chunk.encode` of it; its rows."""

    number: int
    chunk: str
    rows: int


@dataclass(frozen=True)
class Totals:
    """How far a backfill has come: rows of all its chunks, chunks that are done, and what these have."""

    planned: int = 0
    done: int = 0
    rows: int = 0
    bad: int = 0
    duplicates: int = 0


class Ledger(Protocol):
    """Every method is one atomic step, and may be called from any thread and any process.

    All raise BulkError where the ledger cannot be used.
    """

    def settings(self, offered: str) -> str:
        """The settings that are recorded; those offered where there were none."""
        ...

    def record(self, chunks: Sequence[PlannedChunk]) -> int | None:
        """Records chunks that are new; the first number that is recorded otherwise, None where there is none.

        After the end no further ones are taken: their numbers count as recorded otherwise.
        """
        ...

    def claim(self, number: int, token: str, seconds: float) -> str | None:
        """The chunk, now held under this token; None where it is done, held by another, or not recorded."""
        ...

    def renew(self, number: int, token: str, seconds: float) -> bool:
        """Holds a chunk longer; False where it is not held by this claim any more."""
        ...

    def release(self, number: int, token: str) -> bool:
        """Gives a chunk back undone; False where it was not held by this claim any more."""
        ...

    def commit(self, number: int, result: ChunkResult) -> bool:
        """Records a result; False where another one is recorded."""
        ...

    def totals(self) -> Totals:
        """How far the backfill has come."""
        ...

    def open_chunks(self, limit: int) -> list[int]:
        """The first chunks that nobody holds and nobody has done, in order."""
        ...

    def result(self, number: int) -> ChunkResult | None:
        """What came of a chunk; None where it is not done."""
        ...

    def clear(self) -> None:
        """Forgets everything."""
        ...

    def close(self) -> None:
        """Lets go of it; a call that waits for it ends with an error."""
        ...


def open_ledger(backfill_id: str, folder: Path, shared_url: str | None) -> Ledger:
    """The ledger of a backfill: a file in its work directory, or keys in a Redis that several machines reach."""
    if shared_url is None:
        from api.bulk.sqlite_ledger import SqliteLedger

        return SqliteLedger(folder / LEDGER_FILE)
    from api.bulk.redis_ledger import RedisLedger

    return RedisLedger(shared_url, backfill_id)


LEDGER_FILE = "ledger.sqlite"
