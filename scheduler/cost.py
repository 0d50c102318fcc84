"""What a micro-batch costs a worker: seconds from its tokens and the sum of its squared lengths, learned as it runs.

A forward has a fixed cost, one for each token (the linear layers) and one for each pair of tokens of a sequence
(attention): seconds = a + b * tokens + c * squares. The three are fitted by recursive least squares with forgetting (S.
Haykin, "Adaptive Filter Theory"), each batch weighed by what was expected of it, so that small batches count as much as
large ones; and a residual far beyond the usual ones is cut (P. Huber, "Robust Statistics"), so that a moment in which
the machine did something else teaches little.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

FORGETTING = 0.98
"""How much of what was known is kept at each batch: the last fifty count."""

FEW = 8
"""So many batches are taken as they are, for there is nothing yet to tell an outlier by."""

OUTLYING = 2.5
"""Times the usual residual; what is beyond is cut to it."""

LEAST_RESIDUAL = 0.05
"""The usual residual is never taken for less: it would cut what a batch of a new kind has to teach."""

_UNITS = (1.0, 1e3, 1e6)
_UNKNOWN = 1e3
_MOST_UNCERTAIN = 1e6


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
class Cost:
    """What one worker's batches cost. Nothing is known until a first one has run."""

    samples: int = 0
    _factors: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    _spread: list[list[float]] = field(
        default_factory=lambda: [[_UNKNOWN if i == j else 0.0 for j in range(3)] for i in range(3)]
    )
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
        if sample.seconds <= 0:
            return
        expected = self.seconds(sample.tokens, sample.squares)
        weight = 1 / (expected if self.samples >= FEW and expected > 0 else sample.seconds)
        features = [each * weight for each in _features(sample.tokens, sample.squares)]
        residual = (sample.seconds - expected) * weight
        if self.samples >= FEW:
            most = OUTLYING * self._residual
            residual = max(-most, min(most, residual))
            self._residual = max(LEAST_RESIDUAL, self._residual + (abs(residual) - self._residual) / 20)
        self._update(features, residual)
        self.samples += 1

    def _update(self, features: list[float], residual: float) -> None:
        spread = self._spread
        turned = [_dot(row, features) for row in spread]
        gain = [each / (FORGETTING + _dot(features, turned)) for each in turned]
        # None of the three can be less than nothing.
        self._factors = [max(0.0, each + by * residual) for each, by in zip(self._factors, gain, strict=True)]
        # What no batch tells anything about must not become ever less certain: one odd batch would then change it all.
        kept = FORGETTING if sum(spread[i][i] for i in range(3)) < _MOST_UNCERTAIN else 1.0
        self._spread = [[(spread[i][j] - gain[i] * turned[j]) / kept for j in range(3)] for i in range(3)]


def _features(tokens: int, squares: int) -> list[float]:
    return [each / unit for each, unit in zip((1, tokens, squares), _UNITS, strict=True)]


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))
