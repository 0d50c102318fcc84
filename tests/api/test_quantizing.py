"""Embeddings in a byte or a bit for each number, worked out by hand."""

import numpy as np
import pytest

from api.quantizing import EmbeddingType, int8_step, quantized


def test_bits_are_packed_from_the_highest_down_and_zero_counts_as_positive() -> None:
    vectors = np.array([[1, -1, 0, -0.5, -2, 3, -4, 5], [-1, -1, -1, -1, -1, -1, -1, 0.1]], np.float32)
    # 1 0 1 0 0 1 0 1 = 165 and 0 0 0 0 0 0 0 1 = 1
    assert quantized(vectors, "ubinary").tolist() == [[165], [1]]
    assert quantized(vectors, "binary").tolist() == [[165 - 128], [1 - 128]]
    assert quantized(vectors, "ubinary").dtype == np.uint8
    assert quantized(vectors, "binary").dtype == np.int8


def test_a_byte_holds_the_direction_in_steps_that_depend_on_the_dimensions_only() -> None:
    # Four numbers: 10 / sqrt(4) is over 1, so 127 is 1, and the length of the vector (5) goes.
    vectors = np.array([[3, -4, 0, 0], [0, 0, 0, 0], [0, 0, -7, 0]], np.float32)
    # 3 / 5 * 127 = 76.2 and -4 / 5 * 127 = -101.6
    assert quantized(vectors, "int8").tolist() == [[76, -102, 0, 0], [0, 0, 0, 0], [0, 0, -127, 0]]
    assert quantized(vectors, "uint8").tolist() == [[204, 26, 128, 128], [128, 128, 128, 128], [128, 128, 1, 128]]


def test_what_is_beyond_the_range_is_held_at_its_end() -> None:
    vector = np.zeros((1, 400), np.float32)
    vector[0, 0], vector[0, 1] = 0.8, -0.6
    # 10 / sqrt(400) = 0.5
    assert int8_step(400) == pytest.approx(0.5 / 127)
    assert quantized(vector, "int8")[0, :3].tolist() == [127, -127, 0]


@pytest.mark.parametrize("kind", ["int8", "uint8", "binary", "ubinary"])
def test_a_vector_becomes_the_same_whatever_it_comes_with(kind: EmbeddingType) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    together = quantized(vectors, kind)
    for index in range(50):
        assert np.array_equal(quantized(vectors[index : index + 1], kind)[0], together[index])
    if kind in ("int8", "uint8"):
        assert np.array_equal(quantized(vectors * 3, kind), together)


def test_bytes_lose_little_of_the_direction() -> None:
    vectors = np.random.default_rng(2).normal(size=(100, 1024)).astype(np.float32)
    bytes_ = quantized(vectors, "int8").astype(np.float32)
    cosines = (vectors * bytes_).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(bytes_, axis=1)
    assert cosines.min() > 0.9995
