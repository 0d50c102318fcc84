"""From hidden states to finished vectors."""

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling.config import PoolingType
from pooling.errors import CheckpointError
from pooling.packed import PackedBatch
from pooling.pooler import Pooler, finished_vector

HIDDEN = np.arange(12, dtype=np.float32).reshape(6, 2) ** 2
BATCH = PackedBatch.of([np.zeros(length, dtype=np.int32) for length in (1, 3, 2)])


@pytest.mark.parametrize(
    ("pooling_type", "expected"),
    [
        (PoolingType.CLS, HIDDEN[[0, 1, 4]]),
        (PoolingType.LAST, HIDDEN[[0, 3, 5]]),
        (PoolingType.MEAN, np.stack([HIDDEN[:1].mean(0), HIDDEN[1:4].mean(0), HIDDEN[4:].mean(0)])),
    ],
)
def test_each_sequence_gets_its_own_vector(pooling_type: PoolingType, expected: np.ndarray) -> None:
    pooled = Pooler(pooling_type)(paddle.to_tensor(HIDDEN), BATCH).numpy()
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


@pytest.mark.parametrize("pooling_type", [PoolingType.ALL, PoolingType.STEP])
def test_a_pooling_that_gives_no_single_vector_is_refused_by_name(pooling_type: PoolingType) -> None:
    with pytest.raises(CheckpointError, match=pooling_type.value):
        Pooler(pooling_type)


def test_dimensions_are_cut_before_the_length_becomes_one() -> None:
    vector = finished_vector(np.array([3.0, 4.0, 12.0], dtype=np.float32), dimensions=2, normalize=True)
    np.testing.assert_allclose(vector, [0.6, 0.8], rtol=1e-6)


def test_a_vector_that_is_not_normalised_stays_as_it_is() -> None:
    vector = finished_vector(np.array([3.0, 4.0], dtype=np.float32), dimensions=None, normalize=False)
    assert vector.tolist() == [3.0, 4.0]


def test_a_vector_of_zeros_stays_one() -> None:
    assert finished_vector(np.zeros(3, dtype=np.float32), dimensions=None, normalize=True).tolist() == [0.0, 0.0, 0.0]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.integers(1, 20), st.booleans())
def test_a_result_is_contiguous_little_endian_float32(numbers: list[float], dimensions: int, normalize: bool) -> None:
    vector = finished_vector(np.array(numbers, dtype=np.float32), dimensions, normalize)
    assert vector.dtype.str == "<f4"
    assert vector.flags.c_contiguous
    assert len(vector) == min(dimensions, len(numbers))
