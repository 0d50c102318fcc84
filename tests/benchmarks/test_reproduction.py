"""The simulator beside reality: the same calls through a real Redis, scheduler and workers that sleep."""

import numpy as np
import pytest

from benchmarks.reproduction import calls_of, compared_sleeping
from benchmarks.simulation.comparing import engine_of
from benchmarks.simulation.machines import Engine
from scheduler.cost import Sample


def test_an_engine_is_found_from_its_forwards() -> None:
    chance, true = np.random.default_rng(1), Engine(0.006, 2e-4, 1e-7, noise=0.2)
    shapes = [(int(count), int(length)) for count, length in chance.integers((1, 5), (33, 250), (2_000, 2))]
    samples = [
        Sample(count * length, count * length**2, true.seconds(count * length, count * length**2, chance))
        for count, length in shapes
    ]
    found = engine_of(samples, 2048, 256)
    assert found.noise == pytest.approx(true.noise, rel=0.1)
    for tokens, squares in ((16, 256), (1024, 1024 * 64), (2048, 2048 * 200)):
        expected = true.fixed + true.per_token * tokens + true.per_square * squares
        assert found.fixed + found.per_token * tokens + found.per_square * squares == pytest.approx(expected, rel=0.1)


def test_what_no_forward_tells_of_costs_nothing() -> None:
    samples = [Sample(tokens, 0, 0.001 * tokens) for tokens in (10, 20, 40)]
    found = engine_of(samples, 2048, 256)
    assert (found.fixed, found.per_square) == pytest.approx((0, 0), abs=1e-9)
    assert found.per_token == pytest.approx(0.001)


@pytest.mark.soak
def test_a_real_run_is_foretold_within_fifteen_percent() -> None:
    """Not among the tests of every change: what else the machine does is part of the real run."""
    rows = compared_sleeping(calls_of(seconds=12, load=0.2, backlog=6, workers=1, seed=2), workers=1, seed=2)
    assert {row.lane for row in rows} == {"engines", "interactive", "bulk"}
    for row in rows:
        assert 0.85 < row.ratio < 1.15, str(row)
