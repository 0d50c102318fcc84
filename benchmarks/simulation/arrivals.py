"""What arrives, and when: recorded, or made."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.keys import LANES


@dataclass(frozen=True, slots=True)
class Arrival:
    """One item.

    Attributes:
        seconds: from the beginning.
        lane: its number, 0 for the interactive one.
    """

    seconds: float
    lane: int
    tenant: str
    tokens: int
    weight: int = 1


def recorded(path: Path) -> list[Arrival]:
    """A trace: JSON Lines with seconds, lane (its name), tokens and, if there are several, tenant and weight."""
    found = []
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        lane = [str(each) for each in LANES].index(fields.pop("lane"))
        found.append(Arrival(lane=lane, tenant=fields.pop("tenant", ""), **fields))
    return sorted(found, key=lambda each: each.seconds)


def poisson(
    seed: int, lane: int, rate: float, seconds: float, lengths: Sequence[int], tenants: Sequence[str] = ("",)
) -> Iterator[Arrival]:
    """Items at random moments, so many a second, of these lengths by chance, of all tenants alike."""
    chance, now = random.Random(seed), 0.0
    while rate > 0 and (now := now + chance.expovariate(rate)) < seconds:
        yield Arrival(now, lane, chance.choice(tenants), chance.choice(lengths))


def backlog(seed: int, lane: int, count: int, lengths: Sequence[int], tenant: str = "") -> Iterator[Arrival]:
    """Items that all wait from the beginning."""
    chance = random.Random(seed)
    for _ in range(count):
        yield Arrival(0.0, lane, tenant, chance.choice(lengths))
