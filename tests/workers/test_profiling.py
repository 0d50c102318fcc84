"""What a worker learns of its engine before the first request."""

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pooling.engine import PoolingInput
from pooling.started import Finished
from scheduler.cost import Cost
from workers import profiling
from workers.profiling import profile


class Engine:
    """Sleeps for each token."""

    def __init__(self, longest: int, seconds_a_token: float) -> None:
        self.spec: Any = SimpleNamespace(max_model_len=longest)
        self.batches: list[list[int]] = []
        self._seconds = seconds_a_token

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Nothing to warm."""

    def start(self, inputs: Sequence[PoolingInput]) -> Finished:
        self.batches.append([len(each.ids) for each in inputs])
        time.sleep(self._seconds * sum(self.batches[-1]))
        return Finished([])


def test_the_cost_of_a_batch_is_known_from_it() -> None:
    cost = Cost.of(profile(Engine(512, 2e-5), 2048, 256))
    assert cost.seconds(500, 500 * 60) == pytest.approx(0.01, rel=0.4)


def test_it_keeps_to_the_limits_of_the_worker() -> None:
    engine = Engine(20, 0)
    profile(engine, 60, 2)
    assert max(map(max, engine.batches)) == 20
    assert max(map(len, engine.batches)) == 2
    assert max(map(sum, engine.batches)) <= 60


def test_a_slow_engine_is_not_kept_from_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "SECONDS_LIMIT", 0.05)
    engine = Engine(512, 1e-3)
    assert 1 <= len(profile(engine, 2048, 256)) == len(engine.batches) <= 3
