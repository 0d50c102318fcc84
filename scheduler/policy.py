"""Which items make up the next micro-batch. Pure: no Redis, no clock.

Lanes are served in their order. An item that has waited `AGEING_MS` counts as one of the lane above, so that no lane
starves behind a busier one. Within a lane the oldest comes first.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.queue import Waiting

AGEING_MS = 10_000

LOOK_AHEAD = 32
"""Items that do not fit may be stepped over so often, to fill a batch with shorter ones behind them."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold. One sequence is always let in, however long."""

    tokens: int
    sequences: int


def next_batch(lanes: Mapping[int, Iterable[Waiting]], budget: Budget, now_ms: int) -> list[Waiting]:
    """The items of the next micro-batch, empty when nothing waits.

    An item that has failed before is taken alone, so that it can take nobody down with it.

    Args:
        lanes: the waiting items by lane number, oldest first.
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


def _in_order(lanes: Mapping[int, Iterable[Waiting]], now_ms: int) -> Iterator[Waiting]:
    """The items of all lanes, by rank and then by age."""

    def rank(number: int, waiting: Waiting) -> tuple[int, int]:
        risen = max(0, now_ms - waiting.created_ms) // AGEING_MS
        return max(0, number - risen), waiting.created_ms

    iterators = {number: iter(items) for number, items in lanes.items()}
    heads: dict[int, Waiting] = {}
    for number, iterator in iterators.items():
        if (first := next(iterator, None)) is not None:
            heads[number] = first
    while heads:
        number = min(heads, key=lambda lane: rank(lane, heads[lane]))
        yield heads.pop(number)
        if (following := next(iterators[number], None)) is not None:
            heads[number] = following
