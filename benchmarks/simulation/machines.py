"""What a simulated deployment is made of: workers with their true costs, and what everything around a forward takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.cost import Cost, Sample
from scheduler.roster import Worker
from scheduler.settings import SLOTS

PROFILED = ((1, 16), (1, 64), (4, 32), (1, 256), (8, 64), (4, 256), (32, 32), (32, 64))
"""Sequences and their length of the batches that a worker runs before its first (workers/profiling.py)."""

PROFILED_ROUNDS = 2


@dataclass(frozen=True)
class Engine:
    """A worker as it is, whether or not the scheduler knows it.

    Attributes:
        fixed, per_token, per_square: seconds of a forward, of each token, of each token of a sequence squared.
        noise: the standard deviation of the logarithm of a forward's seconds.
        tokens, sequences: what one forward may hold.
    """

    fixed: float
    per_token: float
    per_square: float
    noise: float = 0.0
    tokens: int = 2048
    sequences: int = 256

    def seconds(self, tokens: int, squares: int, chance: np.random.Generator) -> float:
        """What one forward takes."""
        taken = self.fixed + self.per_token * tokens + self.per_square * squares
        return taken * float(np.exp(self.noise * chance.standard_normal())) if self.noise else taken

    def profile(self, chance: np.random.Generator) -> Iterator[Sample]:
        """The batches that it ran before its first: what the scheduler knows of it to begin with."""
        for count, length in PROFILED * PROFILED_ROUNDS:
            fitting = min(length, self.tokens)
            sequences = min(count, self.sequences, max(1, self.tokens // fitting))
            tokens, squares = sequences * fitting, sequences * fitting**2
            yield Sample(tokens, squares, self.seconds(tokens, squares, chance))

    def joins(self, worker_id: str, chance: np.random.Generator) -> Worker:
        """What the scheduler sees of it when it comes."""
        return Worker(worker_id, SLOTS, self.tokens, self.sequences, Cost.of(self.profile(chance)))


@dataclass(frozen=True)
class Overheads:
    """Seconds of everything but the forward. The defaults are measured; docs/scaling.md says how.

    The scheduler does one thing after the other, and so does Redis: what has to wait for them waits. The rest happens
    side by side.

    Attributes:
        api: from the call until its items are handed to Redis, and from their results until the caller has its answer.
        read_item: of the scheduler, to take an item in.
        dispatch, dispatch_item, dispatch_worker: of the scheduler, to form and lease a batch; more for each item in it,
            and for each worker that it looks at to find a free slot.
        hop: from the lease until the worker has claimed the batch.
        finish, finish_item: of the worker, from the forward's end until it commits; more for each item.
        redis_call, redis_item: of Redis, for each step: a request's enqueueing, a batch's lease, claim and commit; more
            for each item in it.
    """

    api: float = 1.5e-3
    read_item: float = 15e-6
    dispatch: float = 400e-6
    dispatch_item: float = 15e-6
    dispatch_worker: float = 0.0
    hop: float = 1.0e-3
    finish: float = 200e-6
    finish_item: float = 10e-6
    redis_call: float = 40e-6
    redis_item: float = 4e-6

    @property
    def of_an_idle_call(self) -> float:
        """What a call of one item takes beside its forward, on a server that does nothing else."""
        redis = 4 * (self.redis_call + self.redis_item)
        scheduler = self.read_item + self.dispatch + self.dispatch_item + self.dispatch_worker
        return self.api + scheduler + self.hop + self.finish + self.finish_item + redis


@dataclass(frozen=True)
class Deployment:
    """Workers and what is around them.

    Attributes:
        target_seconds: for how long the batches of other lanes may keep an interactive caller waiting.
    """

    engines: Sequence[Engine]
    overheads: Overheads = Overheads()
    target_seconds: float = 0.05
