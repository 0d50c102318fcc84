"""How numbers are distributed: counted in bounded memory, and merged without an error that grows."""

import base64
import math
import struct
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

_HALF = struct.Struct("<e")
_LARGEST_HALF = 65504.0

_SUM_BITS = 1074
"""Each double is a whole multiple of 2**-1074, the smallest above zero: so sums of them are exact as integers."""

_BINS = 12
_SHOWN = (0.01, 0.99)
"""Between these quantiles the bins are of equal width; what lies outside is in one bin at either end."""


def exact(value: float) -> int:
    """A finite number in units of 2**-1074. Sums of these do not depend on their order."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_SUM_BITS + 1 - denominator.bit_length())


def mean_of(total: int, count: int) -> float:
    """The mean of numbers that were summed by `exact`; NaN of none, infinite where no float64 holds it."""
    if count == 0:
        return math.nan
    try:
        return float(Fraction(total, count << _SUM_BITS))
    except OverflowError:
        return math.copysign(math.inf, total)


@dataclass(frozen=True, slots=True)
class Bin:
    """A bar of a histogram: numbers from `low` to below `high`, either of which may be infinite."""

    low: float
    high: float
    count: int


class Distribution:
    """Numbers, each counted under its value rounded to float16: at most 65,536 counts, whatever comes.

    Rounding keeps three significant digits; beyond ±65504 a number is counted as that. Count, sum, smallest and largest
    are those of the numbers as they came. Merged parts equal one whole, exactly and in any order.

    Attributes:
        count: finite numbers.
        total: their sum, as `exact` has it.
        smallest, largest: of them; infinite the wrong way round while there are none.
        not_numbers, infinite: NaNs and infinities, which are in nothing else.
    """

    __slots__ = ("_counts", "count", "infinite", "largest", "not_numbers", "smallest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.smallest = math.inf
        self.largest = -math.inf
        self.not_numbers = 0
        self.infinite = 0
        self._counts: dict[float, int] = {}

    def add(self, value: float) -> None:
        """Counts a number."""
        if value != value:
            self.not_numbers += 1
            return
        if math.isinf(value):
            self.infinite += 1
            return
        value += 0.0  # of both zeros, the positive one
        self.count += 1
        self.total += exact(value)
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)
        key = _rounded(value)
        self._counts[key] = self._counts.get(key, 0) + 1

    def merge(self, other: "Distribution") -> None:
        """Takes in what another one counted."""
        self.count += other.count
        self.total += other.total
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)
        self.not_numbers += other.not_numbers
        self.infinite += other.infinite
        for key, count in other._counts.items():
            self._counts[key] = self._counts.get(key, 0) + count

    @property
    def mean(self) -> float:
        """The mean of the numbers as they came; NaN of none."""
        return mean_of(self.total, self.count)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """For each share, given in rising order, the smallest number that so many of all are not above; as float16.

        NaN while there are no numbers.
        """
        if not self.count:
            return [math.nan] * len(shares)
        found: list[float] = []
        passed = 0
        values = iter(sorted(self._counts.items()))
        value = math.nan
        for share in shares:
            while passed < max(1, math.ceil(share * self.count)):
                value, count = next(values)
                passed += count
            found.append(value)
        return found

    def bins(self) -> list[Bin]:
        """A histogram: about a dozen bins of a round width over the middle 98 %, and one at either end for the rest."""
        low, high = self.quantiles(_SHOWN)
        if not self.count or low == high:
            edges = [low] if self.count else []
        else:
            # Not narrower than neighbours of float16 are apart, or bins between them would be empty.
            apart = 2.0**-10 * max(abs(low), abs(high))
            step = _round_step(max((high - low) / _BINS, apart))
            edges = [number * step for number in range(math.floor(low / step), math.floor(high / step) + 2)]
        counts = [0] * (len(edges) + 1)
        for value, count in self._counts.items():
            counts[bisect_right(edges, value)] += count
        limits = [-math.inf, *edges, math.inf]
        bins = [Bin(*limit, count) for limit, count in zip(pairwise(limits), counts, strict=True)]
        return [each for each in bins if each.count or (math.isfinite(each.low) and math.isfinite(each.high))]

    def state(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "total": hex(self.total),
            "range": [self.smallest, self.largest] if self.count else None,
            "not_numbers": self.not_numbers,
            "infinite": self.infinite,
            "counts": _packed(self._counts),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Distribution":
        """From what `state` gave."""
        made = cls()
        made.total = int(state["total"], 16)
        if state["range"]:
            made.smallest, made.largest = map(float, state["range"])
        made.not_numbers, made.infinite = state["not_numbers"], state["infinite"]
        made._counts = _unpacked(state["counts"])
        made.count = sum(made._counts.values())
        return made


def _packed(counts: Mapping[float, int]) -> str:
    """Counts by float16 in few characters: a chunk of 2,000 rows has nearly as many values, each hardly ever twice.

    Base64 of zlib of the values' bits as uint16, each less the one before it, and their counts as uint64; in rising
    order of the bits, little-endian.
    """
    bits = np.fromiter(counts.keys(), np.float16, len(counts)).view(np.uint16)
    order = np.argsort(bits)
    steps = np.diff(bits[order], prepend=np.uint16(0)).astype("<u2")
    numbers = np.fromiter(counts.values(), np.uint64, len(counts))[order].astype("<u8")
    return base64.b64encode(zlib.compress(steps.tobytes() + numbers.tobytes())).decode("ascii")


def _unpacked(text: str) -> dict[float, int]:
    """From what `_packed` gave."""
    data = zlib.decompress(base64.b64decode(text))
    length = len(data) // 10
    bits = np.cumsum(np.frombuffer(data, "<u2", length), dtype=np.uint16)
    numbers = np.frombuffer(data, "<u8", length, 2 * length)
    values: list[float] = bits.view(np.float16).tolist()
    return dict(zip(values, numbers.tolist(), strict=True))


def _rounded(value: float) -> float:
    """The nearest float16 of a finite number."""
    held = max(-_LARGEST_HALF, min(_LARGEST_HALF, value))
    rounded: float = _HALF.unpack(_HALF.pack(held))[0]
    return rounded + 0.0


def _round_step(least: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)
