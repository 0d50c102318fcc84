"""What a leader holds in memory of its model's lanes: of each tenant the items at the front, in their order."""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from scheduler.draft import Budget
from scheduler.keys import LANES
from scheduler.messages import Entry
from scheduler.policy import Decision, Owed, next_batch
from scheduler.queue import Waiting, follows, order_of
from scheduler.turns import Tenant

WINDOW = 4_096
"""Items of a tenant in a lane that are held in memory at once. The rest waits in Redis, where it costs this process
nothing, and hides nobody else's."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries of a tenant that were passed over when they were read.

    Attributes:
        first, last: ids of entries in the lane; none before and none behind them was passed over.
    """

    lane: int
    tenant: str
    first: str
    last: str


class Window:
    """The waiting items of all lanes that were read and not yet sent."""

    def __init__(self) -> None:
        self._lanes = [_Lane(number) for number in range(len(LANES))]
        self._owed = Owed()
        self._next_deadline_ms: int | None = None  # no item's deadline is earlier; perhaps none is at it any more

    def add(self, found: Iterable[Waiting]) -> None:
        """Takes in what was read at the end of the lanes; what is too much of one tenant's is passed over for now."""
        for waiting in found:
            if self._lanes[waiting.entry.lane].add(waiting):
                self._note_deadline(waiting)

    def gaps(self) -> list[Gap]:
        """What was passed over and has room by now."""
        return [gap for lane in self._lanes for gap in lane.gaps()]

    def fill(self, gap: Gap, found: Iterable[Waiting], read_to: str | None) -> None:
        """Takes in what was read again, of all tenants, from the front of a gap on.

        Args:
            read_to: the id of the last entry that was read; None when there was none up to the end of the gap.
        """
        own = [waiting for waiting in found if waiting.tenant == gap.tenant]
        self._lanes[gap.lane].fill(gap.tenant, own, read_to or gap.last)
        for waiting in own:
            self._note_deadline(waiting)

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forgets entries that wait no more; those that were forgotten before make no difference."""
        for entry in entries:
            self._lanes[entry.lane].remove(entry)

    @property
    def urgent(self) -> bool:
        """Whether interactive callers wait."""
        return not self._lanes[0].empty

    def next_batch(self, budget: Budget, *, urgent_only: bool = False) -> Decision:
        """The next micro-batch, empty when nothing waits; its items stay in the window until it is `sent`.

        Args:
            urgent_only: of the first lane alone.
        """
        lanes = self._lanes[:1] if urgent_only else self._lanes
        if budget.pressing_ms is not None and (self._next_deadline_ms or math.inf) >= budget.pressing_ms:
            budget = replace(budget, pressing_ms=None)  # so that nobody looks for what presses
        return next_batch({number: lane.tenants() for number, lane in enumerate(lanes)}, self._owed, budget)

    def sent(self, decision: Decision) -> None:
        """Forgets the items of a micro-batch that was sent, and gives their tenants' turns to the others."""
        self._owed = decision.owed
        self.remove(waiting.entry for waiting in decision.batch)
        for number, turns in decision.owed.turns.items():
            self._lanes[number].put_in_order(turns.order)

    def expired(self, now_ms: int) -> list[Entry]:
        """The items whose deadline has passed. The window is looked through only when there may be one."""
        if self._next_deadline_ms is None or now_ms < self._next_deadline_ms:
            return []
        items = (waiting for lane in self._lanes for tenant in lane.tenants().values() for waiting in tenant.items)
        dated = [waiting for waiting in items if waiting.deadline_ms]
        self._next_deadline_ms = min((waiting.deadline_ms for waiting in dated), default=None)
        return [waiting.entry for waiting in dated if waiting.deadline_ms <= now_ms]

    def _note_deadline(self, waiting: Waiting) -> None:
        if waiting.deadline_ms and (self._next_deadline_ms or waiting.deadline_ms) >= waiting.deadline_ms:
            self._next_deadline_ms = waiting.deadline_ms


@dataclass(slots=True)
class _Waits:
    """What a tenant has waiting in a lane, in the order of service: by priority, and the oldest first.

    Attributes:
        gap: the first and the last entry that was passed over.
    """

    weight: int = 1
    count: int = 0
    by_priority: dict[int, OrderedDict[Entry, Waiting]] = field(default_factory=dict)
    gap: tuple[str, str] | None = None

    def __iter__(self) -> Iterator[Waiting]:
        for priority in sorted(self.by_priority):
            yield from self.by_priority[priority].values()

    def put(self, waiting: Waiting) -> None:
        self.weight = waiting.weight
        self.by_priority.setdefault(waiting.priority, OrderedDict())[waiting.entry] = waiting
        self.count += 1

    def take_out(self, entry: Entry, priority: int) -> None:
        items = self.by_priority[priority]
        del items[entry]
        self.count -= 1
        if not items:
            del self.by_priority[priority]


class _Lane:
    """A lane's tenants, in the order of their turns."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._tenants: OrderedDict[str, _Waits] = OrderedDict()
        self._places: dict[Entry, tuple[str, int]] = {}

    @property
    def empty(self) -> bool:
        return not self._places

    def tenants(self) -> dict[str, Tenant]:
        return {name: Tenant(waits, waits.weight) for name, waits in self._tenants.items()}

    def add(self, waiting: Waiting) -> bool:
        """False where it is passed over."""
        waits = self._tenants.setdefault(waiting.tenant, _Waits())
        entry_id = waiting.entry.entry_id
        if waits.gap or waits.count >= WINDOW:
            waits.gap = (waits.gap[0] if waits.gap else entry_id, entry_id)
            return False
        self._put(waits, waiting)
        return True

    def gaps(self) -> Iterator[Gap]:
        for name, waits in self._tenants.items():
            if waits.gap and waits.count <= WINDOW // 2:
                yield Gap(self._number, name, *waits.gap)

    def fill(self, tenant: str, found: Iterable[Waiting], read_to: str) -> None:
        waits = self._tenants[tenant]
        assert waits.gap
        for waiting in found:
            self._put(waits, waiting)
        last = waits.gap[1]  # more may have been passed over since the gap was read
        waits.gap = (follows(read_to), last) if order_of(read_to) < order_of(last) else None
        self._forget_if_nothing_waits(tenant)

    def remove(self, entry: Entry) -> None:
        if (place := self._places.pop(entry, None)) is not None:
            tenant, priority = place
            self._tenants[tenant].take_out(entry, priority)
            self._forget_if_nothing_waits(tenant)

    def put_in_order(self, names: Iterable[str]) -> None:
        """The tenants named in this order; others, who have come meanwhile, behind them."""
        named = [name for name in names if name in self._tenants]
        for name in reversed(named):
            self._tenants.move_to_end(name, last=False)

    def _put(self, waits: _Waits, waiting: Waiting) -> None:
        if waiting.entry not in self._places:
            waits.put(waiting)
            self._places[waiting.entry] = waiting.tenant, waiting.priority

    def _forget_if_nothing_waits(self, tenant: str) -> None:
        waits = self._tenants[tenant]
        if not waits.count and not waits.gap:
            del self._tenants[tenant]
