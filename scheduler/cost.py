"""What a micro-batch costs a worker: seconds from its tokens and the sum of its squared lengths, learned as it runs.

A forward has a fixed cost, one for each token (the linear layers) and one for each pair of tokens of a sequence
(attention): seconds = a + b * tokens + c * squares. The three are the least squares over the last batches, older ones
counting ever less, each batch weighed by what was expected of it, so that small batches count as much as large ones; a
residual far beyond the usual ones is cut (P. Huber, "Robust Statistics"), so that a moment in which the machine did
something else teaches little. The first batches, of all sizes, never count for nothing: a worker that gets the same
kind of batch for hours would forget the others.

What is kept are the sums of the normal equations, and not the inverse that recursive least squares carry along: that
one drifts off in thousands of steps where batches are alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

FORGETTING = 0.98
"""How much of what was known is kept at each batch: the last fifty count."""

FEW = 8
"""So many batches are taken as they are, for there is nothing yet to tell an outlier by."""

LASTING, LASTING_WEIGHT = 16, 0.02
"""How many of the first batches always count, and how much each of them does."""

LEAST_SECONDS, MOST_SECONDS = 1e-6, 1e4
"""What is beyond is no time that a forward takes."""

OUTLYING = 2.5
"""Times the usual residual; what is beyond is cut to it."""

LEAST_RESIDUAL = 0.05
"""The usual residual is never taken for less: it would cut what a batch of a new kind has to teach."""

RIDGE = 1e-6
"""Keeps the equations solvable where all batches are alike; far below what a single batch adds to them."""

_UNITS = (1.0, 1e3, 1e6)


class Sample(NamedTuple):
    """A micro-batch that ran.

    Attributes:
        squares: the sum of the squared lengths of its sequences.
        seconds: what its forward took.
    """

    tokens: int
    squares: int
    seconds: float


@dataclass(slots=True)
class _Equations:
    """Sums of the normal equations: `matrix @ factors = vector`."""

    matrix: list[list[float]] = field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    vector: list[float] = field(default_factory=lambda: [0.0] * 3)

    def add(self, features: Sequence[float], target: float, weight: float, kept: float = 1.0) -> None:
        for i in range(3):
            for j in range(3):
                self.matrix[i][j] = kept * self.matrix[i][j] + weight * features[i] * features[j]
            self.vector[i] = kept * self.vector[i] + weight * features[i] * target


@dataclass(slots=True)
class Cost:
    """What one worker's batches cost. Nothing is known until a first one has run."""

    samples: int = 0
    _factors: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    _first: _Equations = field(default_factory=_Equations)
    _recent: _Equations = field(default_factory=_Equations)
    _residual: float = LEAST_RESIDUAL

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Cost":
        """What is known from batches that ran before."""
        cost = cls()
        for sample in samples:
            cost.learn(sample)
        return cost

    def seconds(self, tokens: int, squares: int) -> float:
        """What a batch is expected to take; 0 while nothing is known."""
        # Asked for each item of a brief batch and for each worker: ten times as fast as the product of two lists.
        fixed, by_tokens, by_squares = self._factors
        return fixed + by_tokens * tokens / _UNITS[1] + by_squares * squares / _UNITS[2]

    def learn(self, sample: Sample) -> None:
        """Learns from a batch."""
        seconds = max(LEAST_SECONDS, min(MOST_SECONDS, sample.seconds))
        expected = self.seconds(sample.tokens, sample.squares)
        if self.samples < FEW or expected <= 0:
            scale = target = seconds
        else:
            scale, most = expected, OUTLYING * self._residual
            residual = max(-most, min(most, seconds / expected - 1))
            self._residual = max(LEAST_RESIDUAL, self._residual + (abs(residual) - self._residual) / 20)
            target = expected * (1 + residual)
        features = [each / unit for each, unit in zip((1, sample.tokens, sample.squares), _UNITS, strict=True)]
        weight = scale**-2
        if self.samples < LASTING:
            self._first.add(features, target, LASTING_WEIGHT * weight)
        self._recent.add(features, target, weight, FORGETTING)
        self.samples += 1
        self._factors = self._solved()

    def _solved(self) -> list[float]:
        """The factors, none of which can be less than nothing: one that would be is left out."""
        first, recent = self._first, self._recent
        matrix = [[first.matrix[i][j] + recent.matrix[i][j] for j in range(3)] for i in range(3)]
        vector = [first.vector[i] + recent.vector[i] for i in range(3)]
        used = [0, 1, 2]
        while used:
            rows = [[*(matrix[i][j] + (i == j) * RIDGE * matrix[i][i] for j in used), vector[i]] for i in used]
            found = _gauss(rows)
            least = min(range(len(used)), key=lambda place: found[place])
            if found[least] >= 0:
                return [found[used.index(i)] if i in used else 0.0 for i in range(3)]
            del used[least]
        return [0.0, 0.0, 0.0]


def _gauss(rows: list[list[float]]) -> list[float]:
    """Solves equations whose matrix is symmetric and positive: each row has its coefficients and its right side."""
    count = len(rows)
    for column in range(count):
        pivot = rows[column][column]
        if pivot <= 0:
            return [0.0] * count
        for row in range(column + 1, count):
            by = rows[row][column] / pivot
            for place in range(column, count + 1):
                rows[row][place] -= by * rows[column][place]
    found = [0.0] * count
    for row in reversed(range(count)):
        rest = sum(rows[row][place] * found[place] for place in range(row + 1, count))
        found[row] = (rows[row][count] - rest) / rows[row][row]
    return found
