"""Which items make up the next micro-batch. Pure: no Redis, no clock.

Lanes are served in their order. An item that has waited `AGEING_MS` counts as one of the lane above, so that no lane
starves behind a busier one. Within a lane the oldest comes first, and of one tenant's items those of the lowest
priority number: they take the places of their own tenant, and never one of another's.
"""

from collections.abc import Collection, Iterator, Mapping
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


def next_batch(
    lanes: Mapping[int, Collection[Waiting]], budget: Budget, now_ms: int, prioritized: Collection[int] = ()
) -> list[Waiting]:
    """The items of the next micro-batch, empty when nothing waits.

    An item that has failed before is taken alone, so that it can take nobody down with it.

    Args:
        lanes: the waiting items by lane number, oldest first.
        budget: what one forward may hold.
        now_ms: Unix time.
        prioritized: the lanes that hold items of another priority than 0; in the others nobody looks for any.
    """
    batch: list[Waiting] = []
    tokens = stepped_over = 0
    for waiting in _in_order(lanes, now_ms, prioritized):
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


def by_priority(items: Collection[Waiting]) -> Iterator[tuple[Waiting, Waiting]]:
    """The places of a lane, in their order, and with each the item whose turn it is there.

    A place is an item's own until a more urgent one of the same tenant takes it; of equals the older goes first.
    """
    of_tenant: dict[str, list[Waiting]] = {}
    for waiting in items:
        of_tenant.setdefault(waiting.tenant, []).append(waiting)
    turns = {tenant: iter(sorted(own, key=attrgetter("priority"))) for tenant, own in of_tenant.items()}
    for place in items:
        yield place, next(turns[place.tenant])


def _in_order(lanes: Mapping[int, Collection[Waiting]], now_ms: int, prioritized: Collection[int]) -> Iterator[Waiting]:
    """The items of all lanes, by rank and then by age.

    It is the age of the place that counts: were it that of the item which has taken it, a tenant's urgent items would
    keep its old ones, and with them the lane, from ever rising.
    """

    def rank(number: int, place: Waiting) -> tuple[int, int]:
        risen = max(0, now_ms - place.created_ms) // AGEING_MS
        return max(0, number - risen), place.created_ms

    iterators = {
        number: by_priority(items) if number in prioritized else zip(items, items, strict=True)
        for number, items in lanes.items()
    }
    heads: dict[int, tuple[tuple[int, int], Waiting]] = {}
    for number, iterator in iterators.items():
        if (first := next(iterator, None)) is not None:
            heads[number] = rank(number, first[0]), first[1]
    while heads:
        number = min(heads, key=lambda lane: heads[lane][0])
        yield heads.pop(number)[1]
        if (following := next(iterators[number], None)) is not None:
            heads[number] = rank(number, following[0]), following[1]
