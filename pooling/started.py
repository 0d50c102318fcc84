"""A forward that a device has begun: its results are fetched and finished by whoever wants them, in another thread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pooling.pooler import Rows
from pooling.tensors import Arriving


class Started(Protocol):
    """A forward that was begun."""

    @property
    def finished_ns(self) -> int:
        """When its device had finished, by `time.perf_counter_ns`; known once `rows` has returned."""

    def rows(self) -> list[Rows]:
        """The rows of each input's result, float32 [rows, numbers], in the order of the inputs; waits for them."""


@dataclass
class Finished:
    """A forward that was finished when it was begun."""

    found: list[Rows]

    def __post_init__(self) -> None:
        self.finished_ns = time.perf_counter_ns()

    def rows(self) -> list[Rows]:
        """What was found."""
        return self.found


@dataclass(frozen=True)
class Chunk:
    """Inputs that were computed together.

    Attributes:
        places: theirs among all inputs.
        ends: where the rows of each end among those of the chunk, int64 [inputs].
        rows: float32 [rows, numbers], perhaps still on their way.
    """

    places: Sequence[int]
    ends: NDArray[np.int64]
    rows: Arriving


class Begun:
    """A forward of one chunk or more.

    Args:
        finish: makes a result of an input's rows, by the input's place.
    """

    def __init__(self, chunks: Sequence[Chunk], finish: Callable[[int, Rows], Rows]) -> None:
        self._chunks = chunks
        self._finish = finish

    @property
    def finished_ns(self) -> int:
        """When the last chunk's rows had arrived."""
        return max(chunk.rows.arrived_ns for chunk in self._chunks)

    def rows(self) -> list[Rows]:
        """Each input's result."""
        arrays = [chunk.rows.array() for chunk in self._chunks]
        results: dict[int, Rows] = {}
        for chunk, rows in zip(self._chunks, arrays, strict=True):
            for place, own in zip(chunk.places, np.split(rows, chunk.ends[:-1]), strict=True):
                results[place] = self._finish(place, own)
        return [results[place] for place in range(len(results))]
