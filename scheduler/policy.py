"""Which items make up the next micro-batch. Pure: no Redis, no clock.

Lanes are served in their order. An item that has waited `AGEING_MS` counts as one of the lane above, so that no lane
starves behind a busier one. Within a lane the oldest comes first, and of one tenant's items those of the lowest
priority number: they take the places of their own tenant, and never one of another's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from scheduler.queue import Waiting

AGEING_MS = 10_000

LOOK_AHEAD = 32
"""Items that do not fit may be stepped over so often, to fill a batch with shorter ones behind them."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold. One sequence is always let in, however long."""

    tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a lane, as old as the item that came for it, and the item of the same tenant that lies there now.

    It is the age of the place that counts: were it that of the item, a tenant's urgent items would keep its old ones,
    and with them the lane, from ever rising.
    """

    since_ms: int
    waiting: Waiting


def next_batch(lanes: Mapping[int, Iterable[Place]], budget: Budget, now_ms: int) -> list[Waiting]:
    """The items of the next micro-batch, empty when nothing waits.

    An item that has failed before is taken alone, so that it can take nobody down with it.

    Args:
        lanes: the places of each lane by its number, in the order of service.
        budget: what one forward may hold.
        now_ms: Unix time.
    """
    batch: list[Waiting] = []
    tokens = stepped_over = 0
    for waiting in _in_order(lanes, now_ms):
        alone = waiting.attempts > 0
        if not batch and alone:
            return [waiting]
        if alone or (batch and tokens + waiting.tokens > budget.tokens):
            stepped_over += 1
            if stepped_over > LOOK_AHEAD:
                break
            continue
        batch.append(waiting)
        tokens += waiting.tokens
        if len(batch) >= budget.sequences or tokens >= budget.tokens:
            break
    return batch


def by_priority(places: Sequence[Place]) -> list[Place]:
    """Places of one tenant, in their order, its items laid on them anew: the urgent first, equals in their order."""
    urgent_first = sorted((place.waiting for place in places), key=attrgetter("priority"))
    return [Place(place.since_ms, waiting) for place, waiting in zip(places, urgent_first, strict=True)]


def _in_order(lanes: Mapping[int, Iterable[Place]], now_ms: int) -> Iterator[Waiting]:
    """The items of all lanes, by rank and then by age."""

    def rank(number: int, place: Place) -> tuple[int, int]:
        risen = max(0, now_ms - place.since_ms) // AGEING_MS
        return max(0, number - risen), place.since_ms

    iterators = {number: iter(places) for number, places in lanes.items()}
    heads: dict[int, tuple[tuple[int, int], Waiting]] = {}
    for number, iterator in iterators.items():
        if (first := next(iterator, None)) is not None:
            heads[number] = rank(number, first), first.waiting
    while heads:
        number = min(heads, key=lambda lane: heads[lane][0])
        yield heads.pop(number)[1]
        if not heads:
            # The last lane, mostly the only one, has nobody to be compared with.
            yield from (place.waiting for place in iterators[number])
        elif (following := next(iterators[number], None)) is not None:
            heads[number] = rank(number, following), following.waiting
