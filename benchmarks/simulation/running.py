"""Runs arrivals through a deployment in virtual time.

What is decided is decided by the scheduler's own code: `Window` with policy and turns, `Roster` with the costs it
learns, `Urgency`. What is simulated is the world around it, in the order of scheduler/dispatcher.py and
workers/resident.py: reading, leasing, claiming, forwards, commits. Nothing fails here, and no deadline passes.
"""

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.arrivals import Arrivals
from benchmarks.simulation.clock import Clock, Desk, Happening
from benchmarks.simulation.engines import Batch, EngineLine, Forward
from benchmarks.simulation.machines import Deployment
from scheduler.cost import Sample
from scheduler.keys import LANES
from scheduler.messages import Entry
from scheduler.policy import Decision
from scheduler.queue import READ_COUNT, Waiting, order_of
from scheduler.roster import Roster, Slot
from scheduler.urgency import Urgency
from scheduler.window import Gap, Window


@dataclass(frozen=True)
class Outcome:
    """What became of arrivals. Times in seconds of the virtual clock.

    Attributes:
        answered: of each request, when its caller had the answer.
        done: of each item, when its result was written.
        ended: the last of these.
        scheduler_seconds, redis_seconds: for how long each of the two was busy.
    """

    answered: NDArray[np.float64]
    done: NDArray[np.float64]
    forwards: Sequence[Forward]
    ended: float
    scheduler_seconds: float
    redis_seconds: float


class Simulation:
    """One run. The same for the same arrivals, deployment and seed."""

    def __init__(self, deployment: Deployment, arrivals: Arrivals, seed: int = 0) -> None:
        self._arrivals = arrivals
        self._overheads = deployment.overheads
        self._clock = Clock()
        self._scheduler, self._redis = Desk(self._clock), Desk(self._clock)
        self._items = _Items(arrivals)
        self._window, self._urgency = Window(), Urgency(deployment.target_seconds)
        chances = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(len(deployment.engines))]
        self._names = {str(number): number for number in range(len(deployment.engines))}
        self._roster = Roster()
        for name, engine, chance in zip(self._names, deployment.engines, chances, strict=True):
            self._roster.workers[name] = engine.joins(name, chance)
        self._engines = [
            EngineLine(self._clock, engine, chance, self._forwarded)
            for engine, chance in zip(deployment.engines, chances, strict=True)
        ]
        self._batch_numbers = itertools.count()
        self._unread: list[deque[int]] = [deque() for _ in LANES]
        self._reading = self._dispatching = self._filling = self._woken = False
        self._opening = math.inf
        self._answered = np.full(len(arrivals), np.nan)
        self._done = np.full(len(arrivals.tokens), np.nan)
        self._remaining: list[int] = np.diff(arrivals.first).tolist()

    def run(self) -> Outcome:
        """Until everything that was sent is answered."""
        if len(self._arrivals):
            self._clock.after(float(self._arrivals.seconds[0]), lambda: self._sent(0))
        self._clock.run()
        forwards = sorted((each for line in self._engines for each in line.forwards), key=lambda each: each.began)
        ended = float(self._answered.max(initial=0))
        busy = (self._scheduler.busy_seconds, self._redis.busy_seconds)
        return Outcome(self._answered, self._done, forwards, ended, *busy)

    def _sent(self, request: int) -> None:
        """A caller sends a request; the next one comes in its time."""
        if request + 1 < len(self._arrivals):
            wait = float(self._arrivals.seconds[request + 1]) - self._clock.now
            self._clock.after(wait, lambda: self._sent(request + 1))
        items = range(int(self._arrivals.first[request]), int(self._arrivals.first[request + 1]))

        def enqueued() -> None:
            self._unread[self._arrivals.lanes[request]].extend(items)
            if not self._reading:
                self._reading = True
                self._scheduler.submit(self._read)

        self._clock.after(self._overheads.api / 2, lambda: self._step(len(items), enqueued))

    def _read(self) -> tuple[float, Happening]:
        """Takes what has come into the window: some of each lane at a time, so that none hides behind another."""
        found = [
            self._items.waiting(lane.popleft()) for lane in self._unread for _ in range(min(READ_COUNT, len(lane)))
        ]

        def known() -> None:
            self._window.add(found)
            self._urgency.note(found, self._clock.now)
            self._wake()
            self._reading = any(self._unread)
            if self._reading:
                self._scheduler.submit(self._read)

        return self._overheads.read_item * len(found), known

    def _step(self, items: int, then: Happening) -> None:
        """An atomic step of Redis."""
        seconds = self._overheads.redis_call + self._overheads.redis_item * items
        self._redis.submit(lambda: (seconds, then))

    def _wake(self) -> None:
        """There is something to dispatch, or a slot for it."""
        self._woken = True
        if not self._dispatching:
            self._dispatching = True
            self._scheduler.submit(self._dispatch)

    def _dispatch(self) -> tuple[float, Happening]:
        """Forms the next batch, if there is a slot and something waits."""
        self._woken = False
        looked = self._overheads.dispatch_worker * len(self._engines)
        brief = self._urgency.brief_seconds(self._clock.now)
        slot = self._roster.free_slot(self._clock.now, urgent=self._window.urgent, late=brief is not None)
        if slot is None:
            return looked, self._rest
        budget = slot.worker.budget(brief, now_ms=0)
        decision = self._window.next_batch(budget, urgent_only=slot.express)
        if not decision.batch:
            return looked, self._rest
        seconds = looked + self._overheads.dispatch + self._overheads.dispatch_item * len(decision.batch)
        return seconds, lambda: self._step(len(decision.batch), lambda: self._leased(slot, decision))

    def _rest(self) -> None:
        """Until something wakes the dispatcher, if it has not happened meanwhile."""
        self._dispatching = False
        if self._woken:
            self._wake()
        elif (wait := self._roster.opens_in(self._clock.now)) is not None and wait < self._opening - self._clock.now:
            self._opening = self._clock.now + wait
            self._clock.after(wait, self._opened)

    def _opened(self) -> None:
        self._opening = math.inf
        self._wake()

    def _leased(self, slot: Slot, decision: Decision) -> None:
        self._window.sent(decision)
        batch = self._items.batch(str(next(self._batch_numbers)), self._names[slot.worker.worker_id], decision.batch)
        slot.worker.takes(batch.batch_id, decision.batch, self._clock.now)
        self._fill_gaps()

        def claimed() -> None:
            self._engines[batch.worker].put(batch)

        self._clock.after(self._overheads.hop, lambda: self._step(len(batch.items), claimed))
        self._scheduler.submit(self._dispatch)

    def _fill_gaps(self) -> None:
        """Reads again what was passed over, if there is room for it."""
        gap = next(iter(self._window.gaps()), None)
        if gap is not None and not self._filling:
            self._filling = True
            self._scheduler.submit(lambda: self._fill(gap))

    def _fill(self, gap: Gap) -> tuple[float, Happening]:
        found, read_to, read = self._items.read_again(gap)

        def filled() -> None:
            self._window.fill(gap, found, read_to)
            self._filling = False
            self._fill_gaps()
            self._wake()

        return self._overheads.read_item * read, filled

    def _forwarded(self, batch: Batch, sample: Sample) -> None:
        """A forward has ended: its results are committed, and the scheduler hears of the slot."""
        seconds = self._overheads.finish + self._overheads.finish_item * len(batch.items)

        def committed() -> None:
            self._answer(batch.items)
            self._scheduler.submit(lambda: (0.0, freed))

        def freed() -> None:
            self._roster.freed(str(batch.worker), batch.batch_id, sample, self._clock.now)
            self._wake()

        self._clock.after(seconds, lambda: self._step(len(batch.items), committed))

    def _answer(self, items: Sequence[int]) -> None:
        for item in items:
            self._done[item] = self._clock.now
            request = self._items.request_of[item]
            self._remaining[request] -= 1
            if not self._remaining[request]:
                self._answered[request] = self._clock.now + self._overheads.api / 2


class _Items:
    """The items of arrivals as the scheduler meets them. An item's number stands in its entry's id."""

    def __init__(self, arrivals: Arrivals) -> None:
        counts = np.diff(arrivals.first)
        self.request_of: list[int] = np.repeat(np.arange(len(arrivals)), counts).tolist()
        self._arrivals = arrivals
        self._lane_of = np.repeat(arrivals.lanes, counts)
        self._of_lane = [np.flatnonzero(self._lane_of == number) for number in range(len(LANES))]
        self._tokens: list[int] = arrivals.tokens.tolist()
        self._tenants: list[str] = [arrivals.names[number] for number in arrivals.tenants]
        self._lanes: list[int] = arrivals.lanes.tolist()
        self._created_ms: list[int] = (arrivals.seconds * 1000).astype(int).tolist()

    def waiting(self, item: int) -> Waiting:
        """An item as it is read from its lane."""
        request = self.request_of[item]
        tenant = self._tenants[request]
        return Waiting(
            Entry(self._lanes[request], f"0-{item}"),
            "",
            self._tokens[item],
            self._created_ms[request],
            0,
            tenant=tenant,
            weight=self._arrivals.weights.get(tenant, 1),
        )

    def batch(self, batch_id: str, worker: int, chosen: Sequence[Waiting]) -> Batch:
        """What was chosen, as it travels."""
        numbers = [order_of(waiting.entry.entry_id)[1] for waiting in chosen]
        lengths = [waiting.tokens for waiting in chosen]
        urgent = any(waiting.entry.lane == 0 for waiting in chosen)
        return Batch(batch_id, worker, numbers, sum(lengths), sum(each**2 for each in lengths), urgent)

    def read_again(self, gap: Gap) -> tuple[list[Waiting], str | None, int]:
        """What a gap's tenant has among its first entries, up to which these were read, and how many they were."""
        _, first = order_of(gap.first)
        _, last = order_of(gap.last)
        of_lane = self._of_lane[gap.lane]
        begin = int(np.searchsorted(of_lane, first))
        read: list[int] = [item for item in of_lane[begin : begin + READ_COUNT].tolist() if item <= last]
        own = [self.waiting(item) for item in read if self._tenants[self.request_of[item]] == gap.tenant]
        return own, f"0-{read[-1]}" if read else None, len(read)
