"""Where patches and tokens of images lie."""

import numpy as np
import pytest

from pooling.vision.layout import (
    blended_positions,
    expanded,
    image_starts,
    of_patches,
    patch_axes,
    token_axes,
    windows,
)

PLACEHOLDER = 9


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_patches_come_block_by_block() -> None:
    rows, columns = patch_axes([(1, 4, 4)], 2)
    assert rows.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    assert columns.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]


def test_every_image_begins_at_its_own_corner() -> None:
    axes = patch_axes([(1, 2, 4), (2, 2, 2)], 2)
    assert axes.shape == (2, 16)
    assert axes[:, 8].tolist() == [0, 0]
    np.testing.assert_array_equal(axes[:, 8:12], axes[:, 12:16])


def test_windows_cover_every_token_once_and_are_smaller_at_the_edges() -> None:
    found = windows([(1, 6, 10), (1, 4, 4)], 2, 2)
    assert sorted(found.order.tolist()) == list(range(3 * 5 + 2 * 2))
    assert found.order[:4].tolist() == [0, 1, 5, 6]
    assert found.lengths.tolist() == [16, 16, 8, 8, 8, 4, 16]
    assert of_patches(found.order[:2], 2).tolist() == list(range(8))


def test_text_and_images_share_their_axes() -> None:
    sequence = ids(1, *[PLACEHOLDER] * 6, 2, 3)
    time, row, column = token_axes(sequence, PLACEHOLDER, [(1, 2, 3)])
    assert time.tolist() == [0, 1, 1, 1, 1, 1, 1, 4, 5]
    assert row.tolist() == [0, 1, 1, 1, 2, 2, 2, 4, 5]
    assert column.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 5]


def test_images_without_text_between_them_are_told_apart() -> None:
    sequence = ids(*[PLACEHOLDER] * 3)
    assert image_starts(sequence, PLACEHOLDER, [(1, 1, 2), (1, 1, 1)]) == [0, 2]
    assert token_axes(sequence, PLACEHOLDER, [(1, 1, 2), (1, 1, 1)])[0].tolist() == [0, 0, 2]


def test_placeholders_that_are_not_as_many_as_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="2 placeholders for images that have 4 tokens"):
        token_axes(ids(PLACEHOLDER, PLACEHOLDER), PLACEHOLDER, [(1, 2, 2)])


def test_a_placeholder_becomes_as_many_as_its_image_has_tokens() -> None:
    found = expanded(ids(1, PLACEHOLDER, 2, PLACEHOLDER), PLACEHOLDER, [3, 1])
    assert found.tolist() == [1, PLACEHOLDER, PLACEHOLDER, PLACEHOLDER, 2, PLACEHOLDER]
    assert found.dtype == np.int32
    with pytest.raises(ValueError, match="1 placeholders for 2 images"):
        expanded(ids(PLACEHOLDER), PLACEHOLDER, [1, 1])


def test_positions_are_stretched_from_corner_to_corner() -> None:
    blend = blended_positions([(1, 4, 6)], 2, 3)
    np.testing.assert_allclose(blend.weights.sum(axis=1), 1, rtol=1e-6)
    axes = patch_axes([(1, 4, 6)], 2)
    table = np.stack(np.divmod(np.arange(9), 3), axis=1).astype(np.float32)
    stretched = (table[blend.rows] * blend.weights[..., None]).sum(axis=1)
    np.testing.assert_allclose(stretched[:, 0], axes[0] * 2 / 3, atol=1e-6)
    np.testing.assert_allclose(stretched[:, 1], axes[1] * 2 / 5, atol=1e-6)
