"""The simulator: what queueing theory says of simple cases, and what the scheduler promises of others."""

from pathlib import Path

import pytest

from benchmarks.simulation.arrivals import Arrival, backlog, poisson, recorded
from benchmarks.simulation.events import Engine, Outcome, Setting, Simulation
from benchmarks.simulation.report import jain, summary

EXACT = {"dispatch_seconds": 0.0, "commit_seconds": 0.0, "leader_seconds": 0.0}


def waits_of(outcome: Outcome, lane: int) -> list[float]:
    return [wait for (of, _), found in outcome.waits.items() if of == lane for wait in found]


def test_the_same_seed_gives_the_same_outcome_and_nothing_is_lost() -> None:
    setting = Setting([Engine(0.006, 0.0002, 1e-7, noise=0.3)] * 3)
    arrivals = [*backlog(1, 2, 9_000, [20, 90]), *poisson(2, 0, 30, 20, [20, 90])]
    one, other = (Simulation(setting, 7).run(arrivals) for _ in range(2))
    assert one == other
    assert sum(map(len, one.waits.values())) == len(arrivals)
    assert sum(one.tokens.values()) == sum(each.tokens for each in arrivals)


def test_a_single_server_of_single_items_waits_as_pollaczek_and_khinchine_say() -> None:
    """M/D/1: the mean wait for service is rho * s / (2 * (1 - rho))."""
    service, load = 0.01, 0.6
    setting = Setting([Engine(service, 0.0, 0.0)], sequences=1, **EXACT)  # type: ignore[arg-type]
    found = waits_of(Simulation(setting).run(poisson(3, 0, load / service, 600, [10])), 0)
    assert sum(found) / len(found) == pytest.approx(service + load * service / (2 * (1 - load)), rel=0.06)


def test_interactive_items_wait_for_no_more_than_a_brief_batch_beside_a_backlog() -> None:
    setting = Setting([Engine(0.002, 0.0001, 0.0)], target_seconds=0.03, **EXACT)  # type: ignore[arg-type]
    arrivals = [*poisson(4, 0, 20, 60, [20]), *backlog(5, 2, 40_000, [30, 60])]
    found = summary(Simulation(setting).run(arrivals, until=60))
    assert found["utilisation"] > 0.99
    # Its own batch takes 4 ms; few meet others. The first met a batch that was not brief yet.
    assert found["lanes"]["interactive"]["p99"] < 0.03 + 3 * 0.004
    assert found["lanes"]["interactive"]["max"] > 0.1


def test_workers_share_the_work_by_their_speed() -> None:
    setting = Setting([Engine(0.001, 0.0001, 0.0), Engine(0.003, 0.0003, 0.0)])
    outcome = Simulation(setting).run(backlog(6, 2, 5_000, [50]))
    assert min(outcome.busy) / max(outcome.busy) > 0.95


def test_a_trace_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    first = '{"seconds": 2, "lane": "bulk", "tokens": 9}'
    path.write_text(first + '\n{"seconds": 1, "lane": "interactive", "tokens": 5, "tenant": "t"}\n')
    assert recorded(path) == [Arrival(1, 0, "t", 5), Arrival(2, 2, "", 9)]


def test_jains_index() -> None:
    assert jain([5, 5, 5]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
