"""A worker whose engine sleeps for as long as a real one would compute: for measuring schedules, not processors.

Started by `benchmarks.simulate` and `benchmarks.scaling`. `SLEEPING_ENGINE` has the seconds of a forward, of a token
and of a squared length, with spaces between.
"""

import os
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.simulation.real import VARIABLE
from pooling.config import ModelSpec, resolve_spec
from pooling.engine import PoolingInput
from pooling.pooler import Rows
from pooling.started import Finished
from scheduler.connection import connect
from scheduler.logs import set_up_logging
from scheduler.readiness import announce_ready
from workers.app import serve_batches
from workers.engine_thread import EngineThread
from workers.profiling import profile
from workers.resident import Resident
from workers.settings import WorkerSettings


class SleepingEngine:
    """Gives the same vector for every input, after a while."""

    def __init__(self, spec: ModelSpec, fixed: float, a_token: float, a_square: float) -> None:
        self.spec = spec
        self._row: Rows = np.ones((1, spec.row_width), dtype="<f4")
        self._fixed, self._a_token, self._a_square = fixed, a_token, a_square

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Nothing to do."""

    def start(self, inputs: Sequence[PoolingInput]) -> Finished:
        """One row for each input."""
        lengths = [len(each.ids) for each in inputs]
        squares = sum(length**2 for length in lengths)
        time.sleep(self._fixed + self._a_token * sum(lengths) + self._a_square * squares)
        return Finished([self._row] * len(inputs))


def main() -> int:
    """Consumes until SIGTERM, with the settings of any worker."""
    settings = WorkerSettings.from_environment()
    set_up_logging("worker", settings.log_format)
    spec = resolve_spec(settings.checkpoint, settings.model_options)
    engine = SleepingEngine(spec, *map(float, os.environ[VARIABLE].split()))
    samples = profile(engine, settings.max_num_batched_tokens, settings.max_num_seqs)
    resident = Resident(connect(settings.redis_url), engine, EngineThread(), settings, samples)
    return serve_batches(settings, resident, lambda: announce_ready("a sleeping engine"))


if __name__ == "__main__":
    sys.exit(main())
