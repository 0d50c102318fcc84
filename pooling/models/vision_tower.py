"""What every vision tower is to the engine: images in, rows out, and in between layers that may run as a program."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.compiled import Program, as_program
from pooling.layers.attention import (
    LONGEST_AT_ONCE,
    AttentionIndex,
    AttentionPlan,
    attention_index,
    flat_signature,
    flattened,
    unflattened,
)
from pooling.layers.layer import Layer
from pooling.packed import PackedBatch
from pooling.precision import current_precision

WARM_UP_SIDE = 16
"""Patches in a row and in a column of the image that warms a tower up."""


class Layout(NamedTuple):
    """Which of the packed patches see one another.

    Attributes:
        lengths: patches that lie one behind the other and do, group by group.
        axes: the row and the column of each patch, int64 [2, T]; None where nothing turns by them.
    """

    lengths: Sequence[int]
    axes: NDArray[np.int64] | None = None


class VisionTower(Layer):
    """A family's tower: its `forward` takes images to what stands before the layers, and through `layered`.

    Args:
        plan: heads and kind of all layers.
        width: of the hidden states.
        layouts: how many there are of an image, whole images and windows, say.
    """

    def __init__(self, plan: AttentionPlan, width: int, layouts: int = 1) -> None:
        super().__init__()
        self.plan = plan
        self.width = width
        self.layouts = layouts
        self.activations = current_precision().activations
        self._program: Program | None = None
        self._eager_patches = 0

    def through(self, x: paddle.Tensor, indexes: Sequence[AttentionIndex]) -> list[paddle.Tensor]:
        """The layers, and what comes behind them of every patch: x [T, width] -> tensors of rows.

        Args:
            indexes: one of each layout, all of which are used.
        """
        raise NotImplementedError

    def compile(self, eager_patches: int) -> None:
        """Has the layers run as a compiled program wherever there are more patches than these."""
        parts = len(flat_signature(self.plan))

        def flat(tensors: list[paddle.Tensor], index: list[paddle.Tensor]) -> list[paddle.Tensor]:
            each = [index[begin : begin + parts] for begin in range(0, parts * self.layouts, parts)]
            return self.through(tensors[0], [unflattened(part, self.plan) for part in each])

        x = paddle.static.InputSpec([None, self.width], self.activations, "x")
        index = [each for number in range(self.layouts) for each in flat_signature(self.plan, f"{number}_")]
        self._program = as_program(flat, [x], index)
        self._eager_patches = eager_patches

    def warm_up(self) -> None:
        """Computes something, so that the first image finds a program that is compiled; without a program nothing."""
        if self._program is None:  # on several ranks, say: of these the others would not join in
            return
        side = WARM_UP_SIDE
        layout = Layout([side * side], np.indices((side, side)).reshape(2, -1))
        self.layered(paddle.zeros([side * side, self.width], self.activations), [layout] * self.layouts)

    def layered(self, x: paddle.Tensor, layouts: Sequence[Layout]) -> list[paddle.Tensor]:
        """What `through` makes of packed patches x [T, width] that lie so."""
        program = self._program if x.shape[0] > self._eager_patches else None
        if max(max(each.lengths) for each in layouts) > LONGEST_AT_ONCE:
            program = None
        # A program always adds a mask, so that there is only one.
        indexes = [_index(each, self.plan, always_masked=program is not None) for each in layouts]
        if program is None:
            return self.through(x, indexes)
        return program([x], [tensor for index in indexes for tensor in flattened(index)])


def _index(layout: Layout, plan: AttentionPlan, *, always_masked: bool) -> AttentionIndex:
    patches = [np.zeros(length, dtype=np.int32) for length in layout.lengths]
    return attention_index(PackedBatch.of(patches, axes=layout.axes), plan, always_masked)
