"""Where the patches and tokens of images lie: on the axes of rotary embeddings, in windows, on a grid of positions.

Everything here is numpy. Patches come in the order of the image processor: block by block, a block being the
`merge` x `merge` patches of one token. Reference: transformers.vision_utils and Qwen2VLModel.get_rope_index.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pooling.packed import TokenIds

Grid = tuple[int, int, int]
"""Patches or tokens in time, height and width."""


def patch_axes(grids: Sequence[Grid], merge: int) -> NDArray[np.int64]:
    """The row and column of each patch of packed images, int64 [2, patches]."""
    found = []
    for times, height, width in grids:
        places = np.indices((height, width)).reshape(2, height // merge, merge, width // merge, merge)
        found.append(np.tile(places.transpose(0, 1, 3, 2, 4).reshape(2, -1), times))
    return np.concatenate(found, axis=1)


class Windows(NamedTuple):
    """How the tokens of packed images fall into windows.

    Attributes:
        order: the tokens window by window, int64 [tokens].
        lengths: the patches of each window, int64 [windows].
    """

    order: NDArray[np.int64]
    lengths: NDArray[np.int64]


def windows(grids: Sequence[Grid], merge: int, side: int) -> Windows:
    """Windows of `side` x `side` tokens, smaller at the right and the lower edge of an image."""
    order, lengths, first = list[NDArray[np.int64]](), list[int](), 0
    for times, height, width in grids:
        rows, columns = height // merge, width // merge
        tokens = first + np.arange(times * rows * columns).reshape(times, rows, columns)
        for time in range(times):
            for top in range(0, rows, side):
                for left in range(0, columns, side):
                    window = tokens[time, top : top + side, left : left + side].reshape(-1)
                    order.append(window)
                    lengths.append(window.size * merge * merge)
        first += tokens.size
    return Windows(np.concatenate(order), np.array(lengths, dtype=np.int64))


def of_patches(order: NDArray[np.int64], merge: int) -> NDArray[np.int64]:
    """The patches of tokens in that order, int64 [tokens x merge x merge]."""
    block = merge * merge
    return (order[:, None] * block + np.arange(block)).reshape(-1)


class Blend(NamedTuple):
    """How the rows of a table are blended: int64 [patches, 4] rows, float32 [patches, 4] weights."""

    rows: NDArray[np.int64]
    weights: NDArray[np.float32]


def blended_positions(grids: Sequence[Grid], merge: int, side: int) -> Blend:
    """A square grid of learned positions, stretched over each image's patches: between four it is bilinear.

    The outermost patches get the outermost positions (`align_corners` of torch's interpolate).

    Args:
        side: of the square of learned positions.
    """
    rows, weights = [], []
    for times, height, width in grids:
        row, column = patch_axes([(times, height, width)], merge)
        upper, lower, down = _taps(row, height, side)
        left, right, across = _taps(column, width, side)
        rows.append(
            np.stack([upper * side + left, upper * side + right, lower * side + left, lower * side + right], axis=1)
        )
        weights.append(
            np.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], axis=1)
        )
    return Blend(np.concatenate(rows), np.concatenate(weights).astype(np.float32))


def _taps(
    places: NDArray[np.int64], size: int, side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two learned positions around each place, and how far it is on the way to the second."""
    stretched = places.astype(np.float32) * np.float32((side - 1) / max(size - 1, 1))
    before = np.minimum(np.floor(stretched).astype(np.int64), side - 1)
    return before, np.minimum(before + 1, side - 1), (stretched - before).astype(np.float32)


def token_axes(ids: TokenIds, placeholder_id: int, grids: Sequence[Grid]) -> NDArray[np.int64]:
    """The time, row and column of each token of a sequence with images, int64 [3, tokens].

    A text's token has one place on all three axes. An image's tokens begin where the text ends, and what follows begins
    behind the longer of its sides.

    Args:
        ids: with as many placeholders for each image as it has tokens, int32 [tokens].
        grids: of each image's tokens.
    """
    axes = np.empty((3, len(ids)), dtype=np.int64)
    place = done = 0
    starts = image_starts(ids, placeholder_id, grids)
    for start, grid in zip(starts, grids, strict=True):
        axes[:, done:start] = place + np.arange(start - done)
        place += start - done
        done = start + grid[0] * grid[1] * grid[2]
        axes[:, start:done] = place + np.indices(grid).reshape(3, -1)
        place += max(grid[1:])
    axes[:, done:] = place + np.arange(len(ids) - done)
    return axes


def image_starts(ids: TokenIds, placeholder_id: int, grids: Sequence[Grid]) -> list[int]:
    """Where each image's tokens begin in a sequence.

    Raises:
        ValueError: there are more or fewer placeholders than the images have tokens.
    """
    places = np.flatnonzero(ids == placeholder_id)
    sizes = [times * rows * columns for times, rows, columns in grids]
    if len(places) != sum(sizes):
        raise ValueError(f"{len(places)} placeholders for images that have {sum(sizes)} tokens")
    ends = np.cumsum(sizes)
    return [int(places[end - size]) for end, size in zip(ends, sizes, strict=True)]


def expanded(ids: TokenIds, placeholder_id: int, counts: Sequence[int]) -> TokenIds:
    """Ids with each placeholder repeated as often as its image has tokens.

    Args:
        ids: with one placeholder for each image, int32 [n].
        counts: the tokens of each image.

    Raises:
        ValueError: there are more or fewer placeholders than images.
    """
    places = np.flatnonzero(ids == placeholder_id)
    if len(places) != len(counts):
        raise ValueError(f"{len(places)} placeholders for {len(counts)} images")
    repeats = np.ones(len(ids), dtype=np.int64)
    repeats[places] = counts
    return np.repeat(ids, repeats)
