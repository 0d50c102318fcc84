"""How the tenants of a lane share it: weighted deficit round robin.

After M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit Round-Robin" (1996): who has the turn is given
a quantum of tokens times its weight and takes items as long as they are paid for; what is left it keeps for its next
turn, unless it has nothing more waiting. The turns go on where the batch before has ended.

Who would miss a deadline may go ahead of its turn, the earliest deadline first: on credit, so that it waits the longer
afterwards, and in every second batch at most, so that nobody starves of others' deadlines. Room that is too short for
whose turn it is goes to what fits, on credit too.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from scheduler.draft import Draft, Offer
from scheduler.queue import Waiting

MOST_TRIED = 128
"""Items that are tried, of all tenants together, for the room that a batch has left when all turns are over."""

QUANTUM = 256
"""Tokens a turn: a part of a batch, so that it has room for several tenants, and more than a short text, so that turns
are not gone round in vain."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """What a tenant has waiting in a lane, in the order of service, and its weight beside others."""

    items: Iterable[Waiting]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Turns:
    """Where the turns of a lane stand.

    Attributes:
        order: the tenants that have something waiting still, the one whose turn it is first.
        deficits: tokens that a tenant was given and has not used; less than 0 for one that got some on credit.
        begun: those whose turns have begun and not ended: they have got their quantum.
        hurried: whether somebody has gone ahead of its turn in the batch before.
    """

    order: Sequence[str] = ()
    deficits: Mapping[str, int] = field(default_factory=dict)
    begun: Set[str] = frozenset()
    hurried: bool = False


@dataclass(slots=True)
class _Turn:
    """A tenant at its turn.

    Attributes:
        reserved: tokens of the items that were stepped over, for the batch had no room: the next one begins with them,
            so what they cost is not spent on what comes behind them.
    """

    weight: int
    items: Iterator[Waiting]
    next: Waiting | None
    deficit: int
    begun: bool
    reserved: int = 0

    @property
    def waits(self) -> bool:
        """Whether the tenant has something that is not in the batch."""
        return self.next is not None or self.reserved > 0

    @property
    def quantum(self) -> int:
        """Tokens that a turn gives."""
        return QUANTUM * self.weight

    def begin(self) -> None:
        if not self.begun:
            self.deficit += self.quantum
            self.begun = True

    def put_off(self) -> None:
        """Undoes `begin`, for a turn that found no room for anything."""
        self.deficit -= self.quantum
        self.begun = False

    def presses(self, draft: Draft) -> bool:
        """Whether what comes next may miss its deadline, and the tenant is not a turn in debt already."""
        return self.next is not None and draft.budget.presses(self.next) and self.deficit > -self.quantum

    def offer(self, draft: Draft) -> Offer:
        """Offers what comes next; it is charged for if it is taken."""
        assert self.next
        outcome = draft.offer(self.next)
        if outcome is Offer.TAKEN:
            self.deficit -= self.next.tokens
        return outcome

    def take_ahead(self, draft: Draft, allowance: float) -> float:
        """Puts what presses into the batch, on credit if need be; what is left of the allowance."""
        while self.next and not draft.closed and self.presses(draft) and self.next.tokens <= allowance:
            if self.offer(draft) is not Offer.TAKEN:
                break
            allowance -= self.next.tokens
            self.next = next(self.items, None)
        return allowance

    def take(self, draft: Draft, allowance: float) -> float:
        """Puts what is paid for into the batch; what is left of the allowance."""
        while self.next and not draft.closed and self.next.tokens <= min(self.deficit - self.reserved, allowance):
            match self.offer(draft):
                case Offer.TAKEN:
                    allowance -= self.next.tokens
                case Offer.NO_ROOM:
                    self.reserved += self.next.tokens
                case Offer.MUST_GO_ALONE:
                    break
            self.next = next(self.items, None)
        return allowance

    def fill(self, draft: Draft, allowance: float, tries: int) -> tuple[float, int]:
        """Puts what still fits into the batch, on credit; what is left of the allowance and of the tries."""
        while tries and self.next and not (draft.closed or self.next.attempts or self.deficit <= -self.quantum):
            tries -= 1
            if self.next.tokens <= allowance and self.offer(draft) is Offer.TAKEN:
                allowance -= self.next.tokens
            self.next = next(self.items, None)
        return allowance, tries


def take_turns(draft: Draft, tenants: Mapping[str, Tenant], before: Turns, allowance: float = float("inf")) -> Turns:
    """Fills a batch from a lane until it is closed or nothing is left that fits; where the turns stand after it.

    Args:
        draft: the batch, which is filled.
        tenants: those of the lane, in the order of their turns.
        before: where the turns stood.
        allowance: the most tokens to take.
    """
    lane = _Round(draft, tenants, before)
    ahead = lane.take_ahead(allowance)
    lane.fill(lane.take(allowance - ahead))
    return lane.standing(hurried=ahead > 0)


class _Round:
    """The turns of a lane while a batch is filled."""

    def __init__(self, draft: Draft, tenants: Mapping[str, Tenant], before: Turns) -> None:
        self._draft = draft
        self._tenants = tenants
        self._before = before
        self._taken = {each.entry for each in draft.batch}
        self._met: dict[str, _Turn] = {}
        self._ring = deque(tenants)
        # Their turns go on in the next batch: what they have waiting is too long for the room that this one has left.
        self._paused: list[str] = []

    def take_ahead(self, most: float) -> int:
        """Takes at most so many tokens of what may miss its deadline, the earliest first; how many it took."""
        draft, held = self._draft, self._draft.tokens
        if draft.budget.pressing_ms is None or self._before.hurried:
            return 0
        turns = map(self._turn, self._tenants)
        pressing = [(turn.next.deadline_ms, turn) for turn in turns if turn.next and turn.presses(draft)]
        for _, turn in sorted(pressing, key=lambda each: each[0]):
            most = turn.take_ahead(draft, most)
        return draft.tokens - held

    def take(self, allowance: float) -> float:
        """Goes round and takes what is paid for; what is left of the allowance."""
        draft = self._draft
        while self._ring and not draft.closed:
            name = self._ring.popleft()
            turn = self._turn(name)
            if self._paused and turn.deficit < 0:
                self._paused.append(name)  # others' turns go on first: it pays when its own comes
                continue
            fresh, held = not turn.begun, draft.tokens
            turn.begin()
            allowance = turn.take(draft, allowance)
            if not turn.waits:
                continue
            if draft.closed or (turn.next and turn.next.tokens > allowance):
                self._ring.appendleft(name)
                break
            if turn.reserved:
                self._paused.append(name)  # its turn goes on in the next batch, before the others'
                if fresh and draft.tokens == held:
                    turn.put_off()
            else:
                turn.begun = False
                self._ring.append(name)
        return allowance

    def fill(self, allowance: float) -> None:
        """Gives room that nobody can pay for to what fits: it is nobody's loss, who waits for more than there is."""
        tries = MOST_TRIED
        for name in self._paused if not self._ring else ():
            allowance, tries = self._met[name].fill(self._draft, allowance, tries)

    def standing(self, *, hurried: bool) -> Turns:
        """Where the turns stand now."""
        before, met = self._before, self._met
        order = [*self._paused, *self._ring]
        deficits = {name: met[name].deficit if name in met else before.deficits.get(name, 0) for name in order}
        begun = (name for name in order if (met[name].begun if name in met else name in before.begun))
        return Turns(order, {name: each for name, each in deficits.items() if each}, frozenset(begun), hurried)

    def _turn(self, name: str) -> _Turn:
        """A tenant's turn, as the batch before has left it."""
        if name not in self._met:
            tenant, before, taken = self._tenants[name], self._before, self._taken
            items = (item for item in tenant.items if item.entry not in taken) if taken else iter(tenant.items)
            deficit, begun = before.deficits.get(name, 0), name in before.begun
            self._met[name] = _Turn(tenant.weight, items, next(items, None), deficit, begun)
        return self._met[name]
