"""Which items make up the next micro-batch. Pure: no Redis, no clock; what is owed goes in, and comes out anew.

Lanes are served in their order, and what room a batch has left is filled from the next. While interactive callers come
again and again, only so far that the batch is brief: who comes meanwhile waits for no longer than was promised
(`Budget.brief_seconds`). A lane below that is passed over is owed a share of what the others get, and comes first once
that pays for its next item: so none starves, and one that gets its share anyway takes nobody's place, however long its
items have waited. Within a lane tenants take turns (`scheduler/turns.py`), and of a tenant's items those of the lowest
priority number come first, the oldest before others; of its bulk only the first is the oldest, and those of like length
go with it (`scheduler/alike.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.alike import Alike
from scheduler.draft import Budget, Draft
from scheduler.keys import LANES, Lane
from scheduler.queue import Waiting
from scheduler.turns import Tenant, Turns, take_turns

LEAST_SHARE = 1 / 8
"""Of the tokens, for each lane in which something waits, whatever waits in the lanes above it."""

BULK = LANES.index(Lane.BULK)

Tenants = Mapping[str, Tenant]
"""A lane's tenants by name, in the order of their turns."""


@dataclass(frozen=True, slots=True)
class Owed:
    """What earlier batches have left owing.

    Attributes:
        lanes: to a lane, in tokens, by its number.
        turns: where its tenants' turns stand, by its number.
    """

    lanes: Mapping[int, float] = field(default_factory=dict)
    turns: Mapping[int, Turns] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The next micro-batch, empty when nothing waits, and what is owed once it is sent."""

    batch: Sequence[Waiting]
    owed: Owed


def next_batch(lanes: Mapping[int, Tenants], owed: Owed, budget: Budget) -> Decision:
    """The next micro-batch for a worker.

    An item that has failed before is taken alone, so that it can take nobody down with it. One sequence is let in
    however long it is.

    Args:
        lanes: what waits, by the lane's number, in the order of service.
        owed: what the decision before this one has left.
        budget: what one forward may hold.
    """
    draft = Draft(budget)
    waiting = {number: first for number, tenants in lanes.items() if (first := _first(tenants)) is not None}
    left = {number: _alike(tenants) if number == BULK else tenants for number, tenants in lanes.items()}
    turns = dict(owed.turns)

    def fill(number: int, allowance: float) -> None:
        turns[number] = take_turns(draft, left[number], turns.get(number, Turns()), allowance)
        left[number] = {name: left[number][name] for name in turns[number].order}

    for number in list(waiting)[1:]:
        if owed.lanes.get(number, 0) >= waiting[number].tokens:
            fill(number, owed.lanes[number])
    for number in waiting:
        if not draft.closed:
            fill(number, float("inf"))
    return Decision(draft.batch, Owed(_owed_lanes(draft, lanes, waiting, owed.lanes), turns))


def _alike(tenants: Tenants) -> Tenants:
    return {name: Tenant(Alike(tenant.items), tenant.weight) for name, tenant in tenants.items()}


def _owed_lanes(
    draft: Draft, lanes: Mapping[int, Tenants], waiting: Mapping[int, Waiting], before: Mapping[int, float]
) -> dict[int, float]:
    """A share of the batch for each lane below the first, less what it got. What was given freely is not owed back."""
    # A lane that was not looked at is owed what it was.
    owed = {number: each for number, each in before.items() if number not in lanes}
    for number in list(waiting)[1:]:
        most = max(draft.budget.tokens, waiting[number].tokens)
        got = sum(each.tokens for each in draft.batch if each.entry.lane == number)
        owed[number] = min(most, max(0.0, before.get(number, 0) + draft.tokens * LEAST_SHARE - got))
    return owed


def _first(tenants: Tenants) -> Waiting | None:
    """The item that the lane's turns begin with."""
    return next((first for tenant in tenants.values() if (first := next(iter(tenant.items), None)) is not None), None)
