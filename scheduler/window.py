"""What a leader holds in memory of its model's lanes: the items at their front, in the order of service."""

from collections import OrderedDict
from collections.abc import Iterable

from scheduler.keys import LANES
from scheduler.messages import Entry
from scheduler.policy import Budget, Place, by_priority, next_batch
from scheduler.queue import Waiting

WINDOW = 4_096
"""Items of a lane held in memory at once. The rest waits in Redis, where it costs this process nothing."""


class Window:
    """The waiting items of all lanes that were read and not yet sent."""

    def __init__(self) -> None:
        self._lanes = [_Lane() for _ in LANES]
        self._next_deadline_ms: int | None = None  # no item's deadline is earlier; perhaps none is at it any more

    def lanes_with_room(self) -> list[int]:
        """The numbers of the lanes of which more may be read."""
        return [number for number, lane in enumerate(self._lanes) if len(lane.places) < WINDOW]

    def add(self, found: Iterable[Waiting]) -> None:
        """Takes in what was read."""
        for waiting in found:
            self._lanes[waiting.entry.lane].add(waiting)
            if waiting.deadline_ms and (self._next_deadline_ms or waiting.deadline_ms) >= waiting.deadline_ms:
                self._next_deadline_ms = waiting.deadline_ms

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forgets entries that wait no more; those that were forgotten before make no difference."""
        for entry in entries:
            self._lanes[entry.lane].remove(entry)

    def next_batch(self, budget: Budget, now_ms: int) -> list[Waiting]:
        """The items of the next micro-batch, empty when nothing waits; they stay in the window until removed."""
        for lane in self._lanes:
            lane.put_in_order()
        return next_batch({n: lane.places.values() for n, lane in enumerate(self._lanes)}, budget, now_ms)

    def expired(self, now_ms: int) -> list[Entry]:
        """The items whose deadline has passed. The window is looked through only when there may be one."""
        if self._next_deadline_ms is None or now_ms < self._next_deadline_ms:
            return []
        items = (place.waiting for lane in self._lanes for place in lane.places.values())
        dated = [waiting for waiting in items if waiting.deadline_ms]
        self._next_deadline_ms = min((waiting.deadline_ms for waiting in dated), default=None)
        return [waiting.entry for waiting in dated if waiting.deadline_ms <= now_ms]


class _Lane:
    """A lane's places in the order of service.

    A place is kept by the entry that came for it, though another of the same tenant may lie there. So a tenant's places
    are used up in their order, whatever its items' priorities, and no other tenant waits longer for them.

    Attributes:
        places: by the entry that came for each.
    """

    def __init__(self) -> None:
        self.places: OrderedDict[Entry, Place] = OrderedDict()
        self._elsewhere: dict[Entry, Entry] = {}  # of the items that do not lie at their own place: at whose
        self._last_priority: dict[str, int] = {}  # by tenant: no item that lies in order has a higher number
        self._unordered: set[str] = set()  # tenants with items that came behind less urgent ones

    def add(self, waiting: Waiting) -> None:
        self.places[waiting.entry] = Place(waiting.created_ms, waiting)
        if waiting.priority < self._last_priority.get(waiting.tenant, waiting.priority):
            self._unordered.add(waiting.tenant)
        else:
            self._last_priority[waiting.tenant] = waiting.priority

    def remove(self, entry: Entry) -> None:
        self.places.pop(self._elsewhere.pop(entry, entry), None)

    def put_in_order(self) -> None:
        """Lays the items anew of those tenants of whom something urgent has come: of nobody, as a rule."""
        if not self._unordered:
            return
        keys: dict[str, list[Entry]] = {tenant: [] for tenant in self._unordered}
        for key, place in self.places.items():
            if place.waiting.tenant in keys:
                keys[place.waiting.tenant].append(key)
        for tenant, own in keys.items():
            self._last_priority.pop(tenant)
            for key, place in zip(own, by_priority([self.places[key] for key in own]), strict=True):
                self.places[key] = place
                self._last_priority[tenant] = place.waiting.priority
                if place.waiting.entry == key:
                    self._elsewhere.pop(key, None)
                else:
                    self._elsewhere[place.waiting.entry] = key
        self._unordered.clear()
