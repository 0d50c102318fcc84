"""The simulation: arrivals, a leader that dispatches by the scheduler's own code, and workers that take their time."""

import heapq
import itertools
import random
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.simulation.arrivals import Arrival
from scheduler.cost import Cost, Sample
from scheduler.keys import LANES
from scheduler.messages import Entry
from scheduler.queue import READ_COUNT, Waiting, order_of
from scheduler.roster import Roster, Slot, Worker
from scheduler.settings import SLOTS, URGENT_REMEMBERED_SECONDS
from scheduler.window import Window


@dataclass(frozen=True, slots=True)
class Engine:
    """What a worker's forwards really take: `fixed + a_token * tokens + a_square * squares` seconds, and some noise.

    Attributes:
        noise: sigma of the logarithm of a factor.
    """

    fixed: float
    a_token: float
    a_square: float
    noise: float = 0.0

    def seconds(self, tokens: int, squares: int) -> float:
        """Without the noise."""
        return self.fixed + self.a_token * tokens + self.a_square * squares


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything but the arrivals.

    Attributes:
        engines: one for each worker.
        tokens, sequences: of a micro-batch.
        target_seconds: the scheduler's target for interactive callers.
        dispatch_seconds, commit_seconds: from a free slot to the worker, and from a forward's end to its results.
        leader_seconds: what forming and sending a batch takes of the leader, which does one after another.
    """

    engines: Sequence[Engine]
    tokens: int = 2048
    sequences: int = 256
    target_seconds: float = 0.05
    dispatch_seconds: float = 0.002
    commit_seconds: float = 0.0015
    leader_seconds: float = 0.0005


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        waits: seconds from arrival to result, by lane and tenant.
        tokens: done, by lane and tenant.
        busy: seconds in which each worker computed.
        batches: tokens of each.
        seconds: until the end.
        leader: seconds in which the leader worked.
    """

    waits: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    tokens: dict[tuple[int, str], int] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    seconds: float = 0.0
    leader: float = 0.0


@dataclass(slots=True)
class _Batch:
    name: str
    items: Sequence[Waiting]
    urgent: bool
    tokens: int
    squares: int


@dataclass(slots=True)
class _Hand:
    """A worker: the batches that wait for its engine, and whether that runs."""

    engine: Engine
    urgent: deque[_Batch] = field(default_factory=deque)
    others: deque[_Batch] = field(default_factory=deque)
    runs: bool = False


class Simulation:
    """Runs arrivals through a setting; the same seed gives the same outcome."""

    def __init__(self, setting: Setting, seed: int = 0) -> None:
        self._setting = setting
        self._chance = random.Random(seed)
        self._window, self._roster, self._hands = Window(), Roster(), dict[str, _Hand]()
        self._events: list[tuple[float, int, str, object]] = []
        self._numbers = itertools.count()
        self._lanes: list[list[Waiting]] = [[] for _ in LANES]
        self._urgent_seen = float("-inf")
        self._leader_free = 0.0
        self.outcome = Outcome(busy=[0.0] * len(setting.engines))
        for number, engine in enumerate(setting.engines):
            name = str(number)
            # The profile of a worker's start.
            sizes = [(16, 1), (64, 1), (128, 4), (512, 8), (1024, 16), (2048, 32)]
            known = Cost.of(
                Sample(tokens, tokens**2 // count, engine.seconds(tokens, tokens**2 // count))
                for tokens, count in sizes * 2
            )
            self._roster.workers[name] = Worker(name, SLOTS, setting.tokens, setting.sequences, known)
            self._hands[name] = _Hand(engine)

    def run(self, arrivals: Iterable[Arrival], until: float | None = None) -> Outcome:
        """Returns when everything is done, or at this second."""
        for arrival in arrivals:
            self._at(arrival.seconds, "arrive", arrival)
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            if until is not None and now > until:
                break
            self.outcome.seconds = now
            getattr(self, f"_{kind}")(now, what)
        return self.outcome

    def _at(self, seconds: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (seconds, next(self._numbers), kind, what))

    def _arrive(self, now: float, arrival: Arrival) -> None:
        entry = Entry(arrival.lane, f"{round(now * 1e6)}-{next(self._numbers)}")
        item = Waiting(
            entry, entry.entry_id, arrival.tokens, round(now * 1000), 0, 0, arrival.tenant, 0, arrival.weight
        )
        self._lanes[arrival.lane].append(item)
        self._window.add([item])
        if arrival.lane == 0:
            self._urgent_seen = now
        self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        if now < self._leader_free:
            self._at(self._leader_free, "look", None)
            return
        while (slot := self._roster.free_slot(urgent=self._window.urgent)) and self._send(now, slot):
            self._leader_free = max(now, self._leader_free) + self._setting.leader_seconds
            self.outcome.leader += self._setting.leader_seconds
            if self._setting.leader_seconds:
                self._at(self._leader_free, "look", None)
                return

    def _look(self, now: float, _: object) -> None:
        if now >= self._leader_free:
            self._dispatch(now)

    def _send(self, now: float, slot: Slot) -> bool:
        lately = now - self._urgent_seen < URGENT_REMEMBERED_SECONDS
        budget = slot.worker.budget(self._setting.target_seconds if lately else None)
        decision = self._window.next_batch(budget, urgent_only=slot.express)
        if not decision.batch:
            return False
        self._window.sent(decision)
        self._fill_gaps()
        items = decision.batch
        squares = sum(each.tokens**2 for each in items)
        urgent = any(each.entry.lane == 0 for each in items)
        batch = _Batch(str(next(self._numbers)), items, urgent, sum(each.tokens for each in items), squares)
        slot.worker.held += 1
        if urgent:
            slot.worker.urgent.add(batch.name)
        self._at(now + self._setting.dispatch_seconds, "claim", (slot.worker.worker_id, batch))
        return True

    def _fill_gaps(self) -> None:
        """Reads again what was passed over, as the leader does from Redis."""
        for gap in self._window.gaps():
            lane = self._lanes[gap.lane]
            begin = bisect_left(lane, order_of(gap.first), key=_order)
            end = bisect_right(lane, order_of(gap.last), key=_order)
            found = lane[begin : min(end, begin + READ_COUNT)]
            self._window.fill(gap, found, found[-1].entry.entry_id if found else None)

    def _claim(self, now: float, what: tuple[str, _Batch]) -> None:
        name, batch = what
        hand = self._hands[name]
        (hand.urgent if batch.urgent else hand.others).append(batch)
        self._begin(now, name)

    def _begin(self, now: float, name: str) -> None:
        hand = self._hands[name]
        line = hand.urgent or hand.others
        if hand.runs or not line:
            return
        batch, hand.runs = line.popleft(), True
        seconds = hand.engine.seconds(batch.tokens, batch.squares) * self._chance.lognormvariate(0, hand.engine.noise)
        self.outcome.busy[int(name)] += seconds
        self.outcome.batches.append(batch.tokens)
        self._at(now + seconds, "end", (name, batch, seconds))

    def _end(self, now: float, what: tuple[str, _Batch, float]) -> None:
        name, _, _ = what
        self._hands[name].runs = False
        self._at(now + self._setting.commit_seconds, "commit", what)
        self._begin(now, name)

    def _commit(self, now: float, what: tuple[str, _Batch, float]) -> None:
        name, batch, seconds = what
        for item in batch.items:
            place = item.entry.lane, item.tenant
            began = int(item.entry.entry_id.partition("-")[0]) / 1e6
            self.outcome.waits.setdefault(place, []).append(now - began)
            self.outcome.tokens[place] = self.outcome.tokens.get(place, 0) + item.tokens
        self._roster.freed(name, batch.name, Sample(batch.tokens, batch.squares, seconds))
        self._dispatch(now)


def _order(item: Waiting) -> tuple[int, int]:
    return order_of(item.entry.entry_id)
