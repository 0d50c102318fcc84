"""From hidden states to finished rows; the expected numbers were computed by hand."""

import json

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling.finishing import finished_embedding, finished_scores
from pooling.packed import PackedBatch
from pooling.pooler import Pooler
from pooling.pooler_config import Activation, PoolerConfig, PoolingType
from tests.pooling.conftest import GOLDEN

# Three sequences, of 1, 3 and 2 tokens; token 9 ends a step.
BATCH = PackedBatch.of([np.array(ids, dtype=np.int32) for ids in ([9], [4, 9, 9], [5, 6])])
HIDDEN = np.array([[1, 10], [2, 20], [4, 40], [9, 60], [3, -1], [5, -3]], dtype=np.float32)


@pytest.mark.parametrize(
    ("pooling_type", "counts", "rows"),
    [
        ("CLS", [1, 1, 1], [[1, 10], [2, 20], [3, -1]]),
        ("LAST", [1, 1, 1], [[1, 10], [9, 60], [5, -3]]),
        ("MEAN", [1, 1, 1], [[1, 10], [5, 40], [4, -2]]),
        ("ALL", [1, 3, 2], [[1, 10], [2, 20], [4, 40], [9, 60], [3, -1], [5, -3]]),
        ("STEP", [1, 2, 0], [[1, 10], [4, 40], [9, 60]]),
    ],
)
def test_each_sequence_gets_its_own_rows(pooling_type: str, counts: list[int], rows: list[list[float]]) -> None:
    pooler = Pooler(PoolerConfig(PoolingType(pooling_type), step_tag_id=9))
    assert pooler.counts(BATCH).tolist() == counts
    np.testing.assert_allclose(pooler(paddle.to_tensor(HIDDEN), BATCH).numpy(), rows, rtol=1e-6)


def test_each_sequence_may_be_pooled_in_its_own_way() -> None:
    pooler = Pooler(PoolerConfig(PoolingType.CLS, step_tag_id=9))
    for kinds, counts, rows in (
        (["ALL", "STEP", "MEAN"], [1, 2, 1], [[1, 10], [4, 40], [9, 60], [4, -2]]),
        (["LAST", "MEAN", "ALL"], [1, 1, 2], [[1, 10], [5, 40], [3, -1], [5, -3]]),
        (["STEP", "LAST", "STEP"], [1, 1, 0], [[1, 10], [9, 60]]),
        (["CLS", "CLS", "LAST"], [1, 1, 1], [[1, 10], [2, 20], [5, -3]]),
        (["LAST", "LAST", "LAST"], [1, 1, 1], [[1, 10], [9, 60], [5, -3]]),
    ):
        wanted = [PoolingType(kind) for kind in kinds]
        assert pooler.counts(BATCH, wanted).tolist() == counts
        np.testing.assert_allclose(pooler(paddle.to_tensor(HIDDEN), BATCH, wanted).numpy(), rows, rtol=1e-6)


def test_a_batch_without_a_single_step_has_no_rows() -> None:
    pooler = Pooler(PoolerConfig(PoolingType.STEP, step_tag_id=7))
    assert pooler.counts(BATCH).tolist() == [0, 0, 0]
    assert pooler(paddle.to_tensor(HIDDEN), BATCH).shape == [0, 2]


@pytest.mark.parametrize(("mode", "pooling_type"), [("cls", "CLS"), ("mean", "MEAN"), ("lasttoken", "LAST")])
def test_poolings_are_those_of_sentence_transformers(mode: str, pooling_type: str) -> None:
    """On the same hidden states, there padded and here packed (tests/golden/make_sentence_transformers.py)."""
    golden = json.loads((GOLDEN / "pooling.json").read_text("utf-8"))
    states, lengths = np.array(golden["states"], dtype=np.float32), golden["lengths"]
    assert len(set(lengths)) > 3
    assert min(lengths) < max(lengths) == states.shape[1]
    packed = np.concatenate([state[:length] for state, length in zip(states, lengths, strict=True)])
    batch = PackedBatch.of([np.zeros(length, dtype=np.int32) for length in lengths])
    rows = Pooler(PoolerConfig(PoolingType(pooling_type)))(paddle.to_tensor(packed), batch).numpy()
    np.testing.assert_allclose(rows, golden["pooled"][mode], rtol=0, atol=1e-6)


def test_dimensions_are_cut_before_the_length_becomes_one() -> None:
    rows = finished_embedding(np.array([[3.0, 4.0, 12.0]], dtype=np.float32), dimensions=2, normalize=True)
    np.testing.assert_allclose(rows, [[0.6, 0.8]], rtol=1e-6)


def test_a_vector_that_is_not_normalised_stays_as_it_is() -> None:
    rows = finished_embedding(np.array([[3.0, 4.0]], dtype=np.float32), dimensions=None, normalize=False)
    assert rows.tolist() == [[3.0, 4.0]]


def test_a_vector_of_zeros_stays_one() -> None:
    rows = finished_embedding(np.zeros((1, 3), dtype=np.float32), dimensions=None, normalize=True)
    assert rows.tolist() == [[0.0, 0.0, 0.0]]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.integers(1, 20), st.booleans())
def test_a_result_is_contiguous_little_endian_float32(numbers: list[float], dimensions: int, normalize: bool) -> None:
    rows = finished_embedding(np.array([numbers], dtype=np.float32), dimensions, normalize)
    assert rows.dtype.str == "<f4"
    assert rows.flags.c_contiguous
    assert rows.shape == (1, min(dimensions, len(numbers)))


@pytest.mark.parametrize(
    ("activation", "good", "expected"),
    [
        (Activation.NONE, None, [[1.0, 3.0]]),
        (Activation.SIGMOID, None, [[0.731058578, 0.952574127]]),
        (Activation.SOFTMAX, None, [[0.119202922, 0.880797078]]),
        (Activation.TANH, None, [[0.761594156, 0.995054754]]),
        (Activation.NONE, 1, [[2.0]]),
        (Activation.NONE, 0, [[-2.0]]),
        (Activation.SOFTMAX, 1, [[0.880797078]]),
        (Activation.SOFTMAX, 0, [[0.119202922]]),
        (Activation.SIGMOID, 1, [[0.880797078]]),
    ],
)
def test_scores_after_each_activation(activation: Activation, good: int | None, expected: list[list[float]]) -> None:
    scores = finished_scores(np.array([[1.0, 3.0]], dtype=np.float32), activation, good)
    assert scores.dtype.str == "<f4"
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=2))
def test_no_logit_is_too_large_for_an_activation(logits: list[float]) -> None:
    row = np.array([logits], dtype=np.float32)
    for activation in Activation:
        assert np.isfinite(finished_scores(row, activation, None)).all()
