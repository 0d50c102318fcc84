"""Forwards as graphs of a fixed size give what plain ones give, with a recorder that runs the function again.

No machine here has a GPU: that CUDA records and replays the same is not seen here.
"""

from collections.abc import Callable

import numpy as np
import paddle
import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import DeviceError
from pooling.graphs import SEQUENCES, SIZES, Graphs, Replay, filled, recorded
from pooling.layers import flash
from pooling.layers.attention import AttentionPlan
from pooling.packed import PackedBatch
from tests.pooling.test_families import FAMILIES, options_of
from tests.pooling.test_flash import packed_plans, plain

LENGTHS = [[5], [16], [1, 30, 2], [40, 24], [7] * SEQUENCES]


def again(function: Callable[[], paddle.Tensor]) -> tuple[paddle.Tensor, Replay]:
    """Replays by running the function once more, into the tensor of the first run."""
    result = function()

    def replay() -> None:
        result.copy_(function(), False)

    return result, replay


@pytest.mark.parametrize("name", ["llama-dynamic", "qwen3", "bert-classifier", "xlm-roberta-classifier"])
def test_a_graph_gives_what_a_plain_forward_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve_spec(FAMILIES / name, options_of(name))
    random = np.random.default_rng(7)
    longest = min(spec.max_model_len, 40)
    batches = [
        [PoolingInput(random.integers(3, spec.vocab_size, min(length, longest)).astype(np.int32)) for length in lengths]
        for lengths in LENGTHS
        for _ in range(2)  # the second finds a graph
    ]
    expected = [Engine.load(spec).forward(batch) for batch in batches]
    monkeypatch.setattr(flash, "flash_attn_unpadded", plain)
    packed_plans(monkeypatch)
    engine = Engine.load(spec, enforce_eager=True)
    recordings: list[Replay] = []

    def counted(function: Callable[[], paddle.Tensor]) -> tuple[paddle.Tensor, Replay]:
        result, replay = again(function)
        recordings.append(replay)
        return result, replay

    graphs = Graphs(engine._model, engine._model.plan, counted)
    monkeypatch.setattr(engine, "_graphs", graphs)
    for batch, known in zip(batches, expected, strict=True):
        for rows, before in zip(engine.forward(batch), known, strict=True):
            np.testing.assert_allclose(rows, before, rtol=0, atol=1e-5 * max(1.0, float(np.abs(before).max())))
    assert len(recordings) == len({graphs.size(packed(batch)) for batch in batches}), "one for each size"
    engine.warm_up(1024, 64)
    assert len(recordings) == len(SIZES)


def packed(batch: list[PoolingInput]) -> PackedBatch:
    return PackedBatch.of([each.ids for each in batch])


def test_what_fits_into_no_graph_is_computed_without() -> None:
    plan = AttentionPlan(2, 2, flash=True)
    graphs = Graphs(lambda *_: pytest.fail("it was recorded"), plan, again)
    too_many = PackedBatch.of([np.zeros(1, dtype=np.int32)] * (SEQUENCES + 1))
    too_long = PackedBatch.of([np.zeros(SIZES[-1] + 1, dtype=np.int32)])
    assert graphs.size(too_many) is None
    assert graphs.size(too_long) is None
    short = PackedBatch.of([np.zeros(3, dtype=np.int32)])
    assert graphs.size(short) == SIZES[0]
    padded = Graphs(lambda *_: pytest.fail("it was recorded"), AttentionPlan(2, 2), again)
    assert padded.size(short) is None, "attention that does not take packed sequences"


def test_where_nothing_can_be_recorded_the_flag_that_does_without_is_named() -> None:
    with pytest.raises(DeviceError, match="use --enforce-eager"):
        recorded(lambda: paddle.zeros([1]))


def test_a_batch_is_filled_up_to_one_shape() -> None:
    batch = PackedBatch.of([np.array([4, 5, 6], dtype=np.int32), np.array([7], dtype=np.int32)])
    full = filled(batch, 16)
    assert full.token_ids.tolist() == [4, 5, 6, 7] + [0] * 12
    assert full.positions.tolist() == [0, 1, 2, 0] + [0] * 12
    assert full.cu_seqlens.tolist() == [0, 3, 4] + [16] * (SEQUENCES - 1)
    assert full.lengths.tolist() == [3, 1, 12] + [0] * (SEQUENCES - 2)
    assert full.cu_seqlens.size == SEQUENCES + 2
