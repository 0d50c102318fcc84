"""A worker whose engine costs nothing: for measuring everything else. Started by `benchmarks.dataplane`."""

import sys
from collections.abc import Sequence

import numpy as np

from pooling.config import ModelSpec, resolve_spec
from pooling.engine import PoolingInput
from pooling.pooler import Rows
from pooling.started import Finished
from scheduler.connection import connect
from scheduler.logs import set_up_logging
from scheduler.readiness import announce_ready
from workers.app import serve_batches
from workers.engine_thread import EngineThread
from workers.resident import Resident
from workers.settings import WorkerSettings


class FreeEngine:
    """Gives the same vector for every input, at once."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._row: Rows = np.ones((1, spec.row_width), dtype="<f4")

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Nothing to do."""

    def start(self, inputs: Sequence[PoolingInput]) -> Finished:
        """One row for each input."""
        return Finished([self._row] * len(inputs))


def main() -> int:
    """Consumes until SIGTERM, with the settings of any worker."""
    settings = WorkerSettings.from_environment()
    set_up_logging("worker", settings.log_format)
    engine = FreeEngine(resolve_spec(settings.checkpoint, settings.model_options))
    resident = Resident(connect(settings.redis_url), engine, EngineThread(), settings)
    return serve_batches(settings, resident, lambda: announce_ready("a free engine"))


if __name__ == "__main__":
    sys.exit(main())
