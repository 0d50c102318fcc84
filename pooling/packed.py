"""Sequences end to end: the shape in which a model sees its input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[np.int32]


@dataclass(frozen=True)
class PackedBatch:
    """S sequences of together T tokens without padding, and the grid [S, L] in which attention lays them out.

    Attributes:
        token_ids: int64 [T].
        positions: the place of each token in its sequence, int64 [T].
        segments: 0, or 1 for the second text of a pair, int64 [T].
        cu_seqlens: where each sequence begins, and the end of the last, int64 [S + 1].
        lengths: int64 [S].
        grid: for each place of the grid the token that lies there, int64 [S, L]; 0 where the place is padding.
        places: for each token its place in the flattened grid, int64 [T].
        axes: where each token lies on several axes, for a rotary embedding that knows them, int64 [axes, T]; None where
            all of them say the same as `positions`.
    """

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    segments: NDArray[np.int64]
    cu_seqlens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    grid: NDArray[np.int64]
    places: NDArray[np.int64]
    axes: NDArray[np.int64] | None = None

    @property
    def padded_places(self) -> int:
        """How many places of the grid hold no token."""
        return self.grid.size - self.token_ids.size

    @classmethod
    def of(
        cls,
        sequences: Sequence[TokenIds],
        second_from: Sequence[int | None] = (),
        axes: NDArray[np.int64] | None = None,
    ) -> "PackedBatch":
        """Pack sequences, in their order; each has at least one token.

        Args:
            sequences: the token ids of each.
            second_from: for each, the place where the second text of a pair begins, or None; may be left out.
            axes: of the packed tokens, int64 [axes, T].
        """
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
        longest = int(lengths.max())
        token_ids = np.empty(int(cu_seqlens[-1]), dtype=np.int64)
        positions = np.empty_like(token_ids)
        segments = np.zeros_like(token_ids)
        places = np.empty_like(token_ids)
        grid = np.zeros((len(sequences), longest), dtype=np.int64)
        order = np.arange(longest)
        for row, sequence in enumerate(sequences):
            begin, end = cu_seqlens[row], cu_seqlens[row + 1]
            token_ids[begin:end] = sequence
            positions[begin:end] = order[: end - begin]
            places[begin:end] = order[: end - begin] + row * longest
            grid[row, : end - begin] = np.arange(begin, end)
        for row, second in enumerate(second_from):
            if second is not None:
                segments[cu_seqlens[row] + second : cu_seqlens[row + 1]] = 1
        return cls(token_ids, positions, segments, cu_seqlens, lengths, grid, places, axes)


def chunks_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Cut sequences into groups of similar length, of at most `max_tokens` places each with its padding.

    A sequence longer than `max_tokens` is a group of its own. Short sequences come first.

    Returns:
        Positions in `lengths`; each occurs once.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[position] <= max_tokens:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups
