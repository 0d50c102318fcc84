"""The simulator: what it must reproduce of theory, and of the scheduler's promises."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import simulate
from benchmarks.simulation.arrivals import Arrivals, Call, Lengths, Stream, made, read_trace, write_trace
from benchmarks.simulation.machines import Deployment, Engine, Overheads
from benchmarks.simulation.report import Report, fair_shares, report
from benchmarks.simulation.running import Outcome, Simulation
from scheduler.window import WINDOW

NOTHING = Overheads(**dict.fromkeys(Overheads.__dataclass_fields__, 0.0))
EVEN = Lengths(median=32, spread=0)
ENGINE = Engine(0.002, 1e-4, 0.0, tokens=1024, sequences=64)


def run(deployment: Deployment, *streams: Stream, seconds: float = 10.0, seed: int = 1) -> tuple[Arrivals, Outcome]:
    arrivals = Arrivals.of(made(streams, seconds, seed))
    return arrivals, Simulation(deployment, arrivals, seed).run()


def report_of(deployment: Deployment, *streams: Stream, seconds: float = 10.0) -> Report:
    return report(*run(deployment, *streams, seconds=seconds), len(deployment.engines))


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    noisy = Deployment([Engine(0.002, 1e-4, 1e-7, noise=0.2)] * 3)
    streams = Stream(0, rate=50), Stream(2, "b", backlog=20, items=64)
    _, first = run(noisy, *streams)
    _, again = run(noisy, *streams)
    _, other = run(noisy, *streams, seed=2)
    assert np.array_equal(first.answered, again.answered)
    assert first.forwards == again.forwards
    assert not np.array_equal(first.answered[:10], other.answered[:10])


def test_every_item_is_run_once_also_when_a_tenant_has_more_than_the_window_holds() -> None:
    arrivals, outcome = run(Deployment([ENGINE] * 2), Stream(2, "b", backlog=3, items=WINDOW), Stream(0, rate=20))
    assert not np.isnan(outcome.done).any()
    assert sum(forward.sequences for forward in outcome.forwards) == len(arrivals.tokens) > 3 * WINDOW
    assert sum(forward.tokens for forward in outcome.forwards) == arrivals.tokens.sum()


def test_no_forward_passes_the_budget_and_no_engine_runs_two_at_once() -> None:
    _, outcome = run(Deployment([ENGINE] * 2), Stream(1, rate=60, items=8), Stream(0, rate=60))
    assert all(each.tokens <= ENGINE.tokens and each.sequences <= ENGINE.sequences for each in outcome.forwards)
    for worker in range(2):
        own = [each for each in outcome.forwards if each.worker == worker]
        assert own
        assert all(a.began + a.seconds <= b.began + 1e-9 for a, b in itertools.pairwise(own))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_calls_that_are_run_one_by_one_wait_as_long_as_queueing_theory_says(load: float) -> None:
    """Poisson arrivals, one server, every service alike (M/D/1): A. Khintchine and F. Pollaczek's mean wait."""
    service = 0.01
    one_by_one = Deployment([Engine(service, 0.0, 0.0, sequences=1)], NOTHING)
    arrivals, outcome = run(one_by_one, Stream(0, rate=load / service, lengths=EVEN), seconds=400)
    waited = float((outcome.answered - arrivals.seconds).mean()) - service
    assert waited == pytest.approx(load / (2 * (1 - load)) * service, rel=0.1)


def test_an_idle_call_takes_its_forward_and_the_overheads() -> None:
    overheads = Overheads()
    arrivals, outcome = run(Deployment([ENGINE], overheads), Stream(0, backlog=1, lengths=EVEN))
    waited = float(outcome.answered[0] - arrivals.seconds[0])
    assert waited == pytest.approx(overheads.of_an_idle_call + 0.002 + 32e-4)


def test_an_engine_that_has_work_waiting_never_waits_itself() -> None:
    found = report_of(Deployment([ENGINE]), Stream(2, "b", backlog=40, items=256, lengths=EVEN))
    assert found.utilisation > 0.99


def test_interactive_callers_beside_a_backlog_wait_for_little_more_than_the_target() -> None:
    target = 0.03
    deployment = Deployment([Engine(0.002, 1e-4, 0.0, tokens=8192)], target_seconds=target)
    backlog = Stream(2, "b", backlog=100, items=256, lengths=EVEN)
    arrivals, outcome = run(deployment, backlog, Stream(0, rate=20, lengths=EVEN), seconds=20)
    calls = (arrivals.lanes == 0) & (arrivals.seconds > 2)  # before that nobody knew that such callers come
    waits = outcome.answered[calls] - arrivals.seconds[calls]
    assert calls.sum() > 200
    # What runs when it comes, its own forward with others that came meanwhile, and what lies around it.
    assert np.percentile(waits, 99) < 2 * target + 0.02


def test_of_ten_tenants_one_that_sends_a_hundred_times_as_much_gets_a_tenth() -> None:
    small = [Stream(1, f"t{number}", backlog=10, items=8) for number in range(9)]
    found = report_of(Deployment([ENGINE]), *small, Stream(1, "greedy", backlog=1000, items=8), seconds=1)
    assert [share.of_fair for share in found.lanes[0].shares] == pytest.approx([1.0] * 10, rel=0.1)
    assert found.lanes[0].jain > 0.99


def test_a_slow_worker_gets_less() -> None:
    slow = Engine(0.008, 4e-4, 0.0, tokens=1024, sequences=64)
    _, outcome = run(Deployment([ENGINE, slow]), Stream(2, backlog=40, items=128, lengths=EVEN))
    fast_tokens, slow_tokens = (sum(each.tokens for each in outcome.forwards if each.worker == n) for n in (0, 1))
    assert 3.5 < fast_tokens / slow_tokens < 4.5


def test_a_scheduler_that_takes_longer_than_the_forwards_is_what_holds_them_up() -> None:
    slow = Overheads(dispatch=0.02)
    found = report_of(Deployment([ENGINE] * 8, slow), Stream(2, backlog=20, items=256, lengths=EVEN))
    assert found.scheduler > 0.95
    assert found.utilisation < 0.7


@pytest.mark.parametrize(
    ("given", "asked", "weights", "fair"),
    [
        (30, [100, 100, 100], [1, 1, 1], [10, 10, 10]),
        (30, [4, 100, 100], [1, 1, 1], [4, 13, 13]),
        (40, [100, 100], [1, 3], [10, 30]),
        (50, [10, 20], [1, 1], [10, 20]),
        (10, [0, 50], [1, 1], [0, 10]),
    ],
)
def test_a_fair_share_is_in_proportion_to_weights_and_no_more_than_was_asked_for(
    given: float, asked: list[float], weights: list[int], fair: list[float]
) -> None:
    assert fair_shares(given, asked, weights) == pytest.approx(fair)


def test_a_trace_reads_as_it_was_written(tmp_path: Path) -> None:
    calls = [Call(0.25, 2, "a", (3, 40)), Call(1.5, 0, "", (7,))]
    write_trace(tmp_path / "trace.jsonl", calls)
    assert read_trace(tmp_path / "trace.jsonl") == calls


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"seconds": 1, "lane": "none", "lengths": [1]}', '{"seconds": 1, "lane": "job", "lengths": []}'],
)
def test_a_line_of_a_trace_that_is_no_call_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(f'{{"seconds": 0, "lane": "job", "lengths": [5]}}\n{line}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_trace(path)


def test_poisson_arrivals_come_at_their_rate_with_lengths_of_their_median() -> None:
    calls = made([Stream(0, rate=100, lengths=Lengths(median=40, spread=0.5))], 100, 3)
    assert len(calls) == pytest.approx(10_000, rel=0.05)
    assert np.median([call.lengths[0] for call in calls]) == pytest.approx(40, rel=0.05)
    gaps = np.diff([call.seconds for call in calls])
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.1)


def test_the_command_prints_waits_by_lane_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = ["--workers", "fixed=0.002,per_token=1e-4", "--workers", "count=2,fixed=0.004,per_token=2e-4,noise=0.1"]
    streams = ["--stream", "rate=20,median=20", "--stream", "lane=bulk,tenant=b,weight=2,backlog=5,items=64"]
    path = tmp_path / "report.json"
    trace = tmp_path / "trace.jsonl"
    command = ["simulate", *workers, *streams, "--seconds", "5", "--json", str(path), "--write-trace", str(trace)]
    monkeypatch.setattr("sys.argv", command)
    simulate.main()
    found = json.loads(path.read_text())
    assert [lane["lane"] for lane in found["lanes"]] == ["interactive", "bulk"]
    assert all(math.isfinite(lane["waits"]["p99"]) for lane in found["lanes"])
    assert "interactive" in capsys.readouterr().out
    assert len(read_trace(trace)) == sum(lane["waits"]["calls"] for lane in found["lanes"])


def test_a_name_that_nothing_has_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["simulate", "--workers", "fixed=1,per_token=1,speed=2"])
    with pytest.raises(SystemExit):
        simulate.main()
    assert "'speed'" in capsys.readouterr().err
