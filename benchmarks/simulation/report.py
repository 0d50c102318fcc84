"""What a run is told by: waits by lane and tenant, fairness, utilisation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.arrivals import Arrivals
from benchmarks.simulation.running import Outcome
from scheduler.keys import LANES

TENANTS_SHOWN = 20


@dataclass(frozen=True)
class Waits:
    """Milliseconds from calls to their answers."""

    calls: int
    p50: float
    p90: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> "Waits":
        """Of so many calls, one or more."""
        p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1000
        return cls(len(seconds), float(p50), float(p90), float(p99), float(seconds.max() * 1000))

    def __str__(self) -> str:
        return (
            f"{self.calls:>8} calls   p50 {self.p50:10.1f}   p90 {self.p90:10.1f}   p99 {self.p99:10.1f}   "
            f"max {self.most:10.1f} ms"
        )


@dataclass(frozen=True)
class Share:
    """What a tenant got of a lane's tokens while it was busy, against its fair share; and how long its calls took.

    Attributes:
        of_fair: 1 is the fair share.
    """

    tenant: str
    tokens: int
    of_fair: float
    waits: Waits


@dataclass(frozen=True)
class LaneReport:
    """A lane that was used.

    Attributes:
        tokens_per_second: from the first call until the last answer.
        jain: R. Jain's index of fairness over the tenants' shares: 1 is fair, 1/n is one of n getting all.
    """

    lane: str
    items: int
    tokens_per_second: float
    waits: Waits
    jain: float
    shares: Sequence[Share]


@dataclass(frozen=True)
class Report:
    """A run. Seconds are those of the virtual clock.

    Attributes:
        utilisation: how much of the time engines computed, the mean of all workers and of the least and most busy.
        scheduler, redis: how much of the time each of the two was busy: near 1 it is what holds the others up.
    """

    seconds: float
    items_per_second: float
    tokens_per_second: float
    utilisation: float
    least_busy: float
    most_busy: float
    scheduler: float
    redis: float
    batches: int
    sequences_a_batch: float
    tokens_a_batch: float
    lanes: Sequence[LaneReport]


def report(arrivals: Arrivals, outcome: Outcome, workers: int) -> Report:
    """The figures of a run with at least one call.

    Raises:
        ValueError: something was not answered.
    """
    unanswered = int(np.isnan(outcome.answered).sum())
    if unanswered:
        raise ValueError(f"{unanswered} calls were not answered")
    seconds = outcome.ended - float(arrivals.seconds[0])
    busy = np.zeros(workers)
    for forward in outcome.forwards:
        busy[forward.worker] += forward.seconds
    busy /= seconds
    batches = len(outcome.forwards)
    return Report(
        seconds,
        len(arrivals.tokens) / seconds,
        float(arrivals.tokens.sum()) / seconds,
        float(busy.mean()),
        float(busy.min()),
        float(busy.max()),
        outcome.scheduler_seconds / seconds,
        outcome.redis_seconds / seconds,
        batches,
        sum(each.sequences for each in outcome.forwards) / batches,
        sum(each.tokens for each in outcome.forwards) / batches,
        [_lane(arrivals, outcome, number, seconds) for number in np.unique(arrivals.lanes).tolist()],
    )


def _lane(arrivals: Arrivals, outcome: Outcome, number: int, seconds: float) -> LaneReport:
    requests = arrivals.lanes == number
    counts = np.diff(arrivals.first)
    items = np.repeat(requests, counts)
    waits = outcome.answered - arrivals.seconds
    shares = list(_shares(arrivals, outcome, requests, items, waits))
    of_fair = np.array([share.of_fair for share in shares])
    return LaneReport(
        LANES[number],
        int(items.sum()),
        float(arrivals.tokens[items].sum()) / seconds,
        Waits.of(waits[requests]),
        float(of_fair.sum() ** 2 / (len(of_fair) * (of_fair**2).sum())) if of_fair.any() else 1.0,
        shares,
    )


def _shares(
    arrivals: Arrivals,
    outcome: Outcome,
    requests: NDArray[np.bool_],
    items: NDArray[np.bool_],
    waits: NDArray[np.float64],
) -> Sequence[Share]:
    """Until half of the lane's tokens were done: later those who asked for less than others have nothing more."""
    tenants, counts = np.unique(arrivals.tenants[requests]), np.diff(arrivals.first)
    tenant_of, sent = np.repeat(arrivals.tenants, counts)[items], np.repeat(arrivals.seconds, counts)[items]
    tokens, ended = arrivals.tokens[items], outcome.done[items]
    order = np.argsort(ended, kind="stable")
    so_far = np.cumsum(tokens[order])
    half = ended[order[np.searchsorted(so_far, so_far[-1] / 2)]]
    got, asked = (
        np.bincount(tenant_of, tokens * within, len(arrivals.names))[tenants].tolist()
        for within in (ended <= half, sent <= half)
    )
    weights = [arrivals.weights.get(arrivals.names[tenant], 1) for tenant in tenants]
    fair = fair_shares(sum(got), asked, weights)
    return [
        Share(
            arrivals.names[tenant],
            int(done),
            done / share if share else 1.0,
            Waits.of(waits[requests & (arrivals.tenants == tenant)]),
        )
        for tenant, done, share in zip(tenants, got, fair, strict=True)
    ]


def fair_shares(given: float, asked: Sequence[float], weights: Sequence[int]) -> list[float]:
    """What each should get of what is given: in proportion to the weights, and nobody more than was asked for."""
    shares = [0.0] * len(asked)
    open_ = [number for number, each in enumerate(asked) if each > 0]
    while open_ and given > 1e-9:
        a_weight = given / sum(weights[number] for number in open_)
        content = [number for number in open_ if asked[number] <= a_weight * weights[number]]
        if not content:
            for number in open_:
                shares[number] = a_weight * weights[number]
            break
        for number in content:
            shares[number] = asked[number]
            given -= asked[number]
        open_ = [number for number in open_ if number not in content]
    return shares


def lines_of(found: Report) -> list[str]:
    """A report to be read."""
    rates = f"{found.items_per_second:.1f} items/s, {found.tokens_per_second:.0f} tokens/s"
    busy = f"{found.utilisation:.1%} busy ({found.least_busy:.1%} to {found.most_busy:.1%})"
    lines = [
        f"{found.seconds:.1f} s, {rates}",
        f"engines {busy}, scheduler {found.scheduler:.1%}, redis {found.redis:.1%}",
        f"{found.batches} batches of {found.sequences_a_batch:.1f} sequences, {found.tokens_a_batch:.0f} tokens",
    ]
    for lane in found.lanes:
        lines.append(f"{lane.lane:<12}{lane.waits}   {lane.items} items, {lane.tokens_per_second:.0f} tokens/s")
        if len(lane.shares) > 1:
            lines.append(f"  fairness {lane.jain:.4f} (Jain's index over {len(lane.shares)} tenants)")
            lines += [_share_line(share) for share in lane.shares[:TENANTS_SHOWN]]
            if len(lane.shares) > TENANTS_SHOWN:
                lines.append(f"  and {len(lane.shares) - TENANTS_SHOWN} tenants more")
    return lines


def _share_line(share: Share) -> str:
    return f"  {share.tenant or '(none)':<10}{share.waits}   {share.of_fair:.3f} of its fair share"
