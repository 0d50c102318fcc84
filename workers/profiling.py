"""What an engine takes for batches of some sizes, before the first request: what its worker's cost is learned from."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from pooling.engine import PoolingEngine, PoolingInput
from scheduler.cost import Sample

SHAPES = [(1, 16), (1, 64), (4, 32), (1, 256), (8, 64), (4, 256), (32, 32), (32, 64)]
"""Sequences and their length."""

ROUNDS = 2
SECONDS_LIMIT = 5.0
"""A large model on a CPU would be at it for minutes: what is missing is learned from its first batches."""


def profile(engine: PoolingEngine, max_num_batched_tokens: int, max_num_seqs: int) -> list[Sample]:
    """Runs batches of several sizes, as many as the time allows."""
    longest = min(engine.spec.max_model_len, max_num_batched_tokens)
    until, samples = time.monotonic() + SECONDS_LIMIT, []
    for lengths in [*_shapes(longest, max_num_batched_tokens, max_num_seqs)] * ROUNDS:
        if time.monotonic() > until:
            break
        inputs = [PoolingInput(np.zeros(length, dtype=np.int32)) for length in lengths]
        began = time.perf_counter()
        engine.start(inputs).rows()
        samples.append(sample_of(lengths, time.perf_counter() - began))
    return samples


def sample_of(lengths: Sequence[int], seconds: float) -> Sample:
    """A batch of sequences of these lengths that took so long."""
    return Sample(sum(lengths), sum(length**2 for length in lengths), seconds)


def _shapes(longest: int, tokens: int, sequences: int) -> Iterator[list[int]]:
    for count, length in SHAPES:
        fitting = min(length, longest)
        yield [fitting] * min(count, sequences, max(1, tokens // fitting))
