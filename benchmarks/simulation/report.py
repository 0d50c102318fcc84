"""What a simulation says: waits by lane, shares of tenants, use of the workers."""

import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.simulation.events import Outcome
from scheduler.keys import LANES


def summary(outcome: Outcome) -> dict[str, Any]:
    """Waits in seconds by lane; tokens by tenant and Jain's index of them; how busy workers and leader were."""
    lanes = {}
    for number, lane in enumerate(LANES):
        waits = [wait for (of, _), found in outcome.waits.items() if of == number for wait in found]
        if waits:
            lanes[str(lane)] = {"items": len(waits), "per_second": len(waits) / outcome.seconds, **quantiles(waits)}
    tenants: dict[str, int] = {}
    for (_, tenant), tokens in outcome.tokens.items():
        tenants[tenant] = tenants.get(tenant, 0) + tokens
    return {
        "seconds": outcome.seconds,
        "lanes": lanes,
        "tenants": tenants,
        "jain": jain(tenants.values()),
        "utilisation": sum(outcome.busy) / (len(outcome.busy) * outcome.seconds),
        "leader": outcome.leader / outcome.seconds,
        "batches": len(outcome.batches),
        "tokens_a_batch": statistics.fmean(outcome.batches),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest."""
    ordered = sorted(values)
    found = {f"p{part}": ordered[min(len(ordered) - 1, len(ordered) * part // 100)] for part in (50, 90, 99)}
    return {**found, "max": ordered[-1]}


def jain(values: Iterable[int]) -> float:
    """R. Jain's index of fairness: 1 where all have the same, 1/n where one of n has everything."""
    shares = list(values)
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) if any(shares) else 1.0


def shown(found: dict[str, Any]) -> str:
    """The summary as lines for people."""
    lines = [f"{'lane':<12}{'items':>9}{'items/s':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'max ms':>9}"]
    for lane, row in found["lanes"].items():
        times = "".join(f"{row[name] * 1000:9.1f}" for name in ("p50", "p90", "p99", "max"))
        lines.append(f"{lane:<12}{row['items']:>9}{row['per_second']:10.1f}{times}")
    lines.append(
        f"workers busy {found['utilisation']:.3f} of the time, the leader {found['leader']:.3f}; {found['batches']} "
        f"batches of {found['tokens_a_batch']:.0f} tokens; Jain's index of {len(found['tenants'])} tenants "
        f"{found['jain']:.4f}"
    )
    return "\n".join(lines)
