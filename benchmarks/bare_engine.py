"""The engine alone, formed as in a worker: the yardstick of `benchmarks.bulk`, which starts it as a process.

    python -m benchmarks.bare_engine SETTINGS

SETTINGS is a JSON file of `Settings`. For each line that comes it runs all rows, sorted by length, in micro-batches of
the worker's budget, and prints the seconds that took, by the clock and of processor time.
"""

import io
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pooling.config import resolve_spec
from pooling.device import prepare_process, threads_for
from pooling.tokenizing import TokenIds


@dataclass(frozen=True)
class Settings:
    """What the process is told.

    Attributes:
        ids: an .npz file with the rows' tokens end to end, and their lengths.
    """

    model: str
    ids: str
    max_num_batched_tokens: int
    max_num_seqs: int

    def save(self, path: Path) -> None:
        """Writes them where `main` reads them."""
        path.write_text(json.dumps(asdict(self)))


def save_ids(path: Path, rows: Sequence[TokenIds]) -> None:
    """Writes rows as `Settings.ids` says."""
    np.savez(path, ids=np.concatenate(rows), lengths=[len(row) for row in rows])


def read_ids(path: Path) -> list[TokenIds]:
    """What `save_ids` wrote."""
    found = np.load(path)
    return np.split(found["ids"], np.cumsum(found["lengths"])[:-1])


def sorted_batches(rows: Sequence[TokenIds], tokens: int, sequences: int) -> list[list[TokenIds]]:
    """The rows by length, short ones first, in batches of at most so many tokens and sequences."""
    batches: list[list[TokenIds]] = []
    held = 0
    for row in sorted(rows, key=len):
        if not batches or held + len(row) > tokens or len(batches[-1]) == sequences:
            batches.append([])
            held = 0
        batches[-1].append(row)
        held += len(row)
    return batches


def main() -> None:
    """Serves until its input ends."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    prepare_process("cpu", threads_for(1))
    with redirect_stderr(io.StringIO()):
        from pooling.engine import Engine, PoolingInput
    thread = ThreadPoolExecutor(1)
    batches = [
        [PoolingInput(row) for row in batch]
        for batch in sorted_batches(
            read_ids(Path(settings.ids)), settings.max_num_batched_tokens, settings.max_num_seqs
        )
    ]

    def load() -> Engine:
        engine = Engine.load(resolve_spec(Path(settings.model)))
        engine.warm_up(settings.max_num_batched_tokens, settings.max_num_seqs)
        return engine

    engine = thread.submit(load).result()

    def run() -> tuple[float, float]:
        began, spent = time.perf_counter(), time.process_time()
        for batch in batches:
            engine.forward(batch)
        return time.perf_counter() - began, time.process_time() - spent

    for _ in sys.stdin:
        print(*thread.submit(run).result(), flush=True)


if __name__ == "__main__":
    main()
