"""What callers send, and when: read from a trace, or made by chance."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scheduler.keys import LANES


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        seconds: when it is sent, from the beginning on.
        lane: its number in `LANES`.
        lengths: tokens of each of its items.
    """

    seconds: float
    lane: int
    tenant: str
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Arrivals:
    """Requests in the order in which they are sent. Arrays, for there may be millions.

    Attributes:
        seconds, lanes, tenants: of each request; a tenant is its number in `names`.
        first: of each request its first item; and at the end how many items there are.
        tokens: of each item.
        weights: a tenant's share beside others, 1 where it is not named.
    """

    seconds: NDArray[np.float64]
    lanes: NDArray[np.int8]
    tenants: NDArray[np.int32]
    first: NDArray[np.int64]
    tokens: NDArray[np.int32]
    names: Sequence[str]
    weights: Mapping[str, int]

    @classmethod
    def of(cls, calls: Iterable[Call], weights: Mapping[str, int] | None = None) -> Self:
        """The arrivals of these calls, which need not be in order."""
        ordered = sorted(calls, key=lambda call: call.seconds)
        names = list(dict.fromkeys(call.tenant for call in ordered))
        numbers = {name: number for number, name in enumerate(names)}
        return cls(
            np.array([call.seconds for call in ordered], np.float64),
            np.array([call.lane for call in ordered], np.int8),
            np.array([numbers[call.tenant] for call in ordered], np.int32),
            np.cumsum([0, *(len(call.lengths) for call in ordered)]),
            np.array([length for call in ordered for length in call.lengths], np.int32),
            names,
            weights or {},
        )

    def __len__(self) -> int:
        return len(self.seconds)


def read_trace(path: Path) -> list[Call]:
    """The calls of a trace: a line of JSON each, with `seconds`, `lane`, `tenant` ("" if absent) and `lengths`.

    Raises:
        ValueError: a line is not such a call; it says which, and why.
    """
    calls = []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
                lengths = tuple(int(length) for length in found["lengths"])
                call = Call(float(found["seconds"]), LANES.index(found["lane"]), str(found.get("tenant", "")), lengths)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
            if call.seconds < 0 or not lengths or min(lengths) < 1:
                raise ValueError(f"{path}, line {number}: seconds must be 0 or more, lengths 1 or more each")
            calls.append(call)
    return calls


def write_trace(path: Path, calls: Iterable[Call]) -> None:
    """Writes what `read_trace` reads."""
    with path.open("w") as file:
        for call in calls:
            line = {
                "seconds": round(call.seconds, 6),
                "lane": LANES[call.lane],
                "tenant": call.tenant,
                "lengths": call.lengths,
            }
            file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Lengths:
    """How long items are: log-normal, as texts are, within bounds. All in tokens.

    Attributes:
        spread: the standard deviation of the logarithm; 0: all are of the median's length.
    """

    median: float = 40
    spread: float = 0.8
    least: int = 3
    most: int = 512

    def draw(self, chance: np.random.Generator, count: int) -> NDArray[np.int64]:
        """The lengths of so many items."""
        drawn = self.median * np.exp(self.spread * chance.standard_normal(count))
        return np.clip(np.rint(drawn), self.least, self.most).astype(np.int64)


@dataclass(frozen=True)
class Stream:
    """A tenant's calls in a lane: Poisson arrivals, or all at the beginning.

    Attributes:
        rate: calls a second.
        backlog: calls that are sent at second 0, before those.
        items: of a call.
    """

    lane: int
    tenant: str = ""
    rate: float = 0.0
    backlog: int = 0
    items: int = 1
    lengths: Lengths = Lengths()

    def calls(self, chance: np.random.Generator, seconds: float) -> list[Call]:
        """The calls within so many seconds."""
        moments = [0.0] * self.backlog + _moments(chance, self.rate, seconds)
        lengths = self.lengths.draw(chance, len(moments) * self.items).reshape(len(moments), self.items)
        return [
            Call(moment, self.lane, self.tenant, tuple(each.tolist()))
            for moment, each in zip(moments, lengths, strict=True)
        ]


def _moments(chance: np.random.Generator, rate: float, seconds: float) -> list[float]:
    """Of a Poisson process: as many as chance will have, anywhere."""
    count = chance.poisson(rate * seconds)
    moments: list[float] = np.sort(chance.uniform(0, seconds, count)).tolist()
    return moments


def made(streams: Iterable[Stream], seconds: float, seed: int) -> list[Call]:
    """The calls of several streams; the same for the same seed, and each stream's whatever others there are."""
    seeds = np.random.SeedSequence(seed)
    calls: list[Call] = []
    for stream in streams:
        calls += stream.calls(np.random.default_rng(seeds.spawn(1)[0]), seconds)
    return calls
