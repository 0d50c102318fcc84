"""What every layer is, and how those with weights make and fill their parameters."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from pooling.precision import current_precision, write

# A tensor of a checkpoint is read and arranged so many bytes at a time: that is all the memory that loading takes.
SLAB_BYTES = 16 * 1024 * 1024


class Stored(Protocol):
    """A tensor in a checkpoint, of which any part can be read on its own."""

    @property
    def shape(self) -> Sequence[int]:
        """Its shape."""

    def read(self, rows: slice, columns: slice | None = None) -> NDArray[np.float32]:
        """These rows, and of a matrix these columns of them; a copy that may be changed."""


class Layer(nn.Layer):  # type: ignore[misc]  # Paddle has no types; nothing else need say so
    """A part of a model."""


class WeightedLayer(Layer):
    """A layer that owns parameters and knows how a checkpoint stores them.

    Attributes:
        shards: the names under which a checkpoint holds the parts of this layer, where it merges several into one.
    """

    shards: Sequence[str] = ()

    def new_matrix(self, *shape: int) -> paddle.Tensor:
        """A parameter of zeros in the type of weights."""
        return self._new(shape, current_precision().weights)

    def new_bytes(self, *shape: int) -> paddle.Tensor:
        """A parameter of zeros of one byte each, with a sign."""
        return self._new(shape, "int8")

    def new_vector(self, *shape: int) -> paddle.Tensor:
        """A parameter of zeros in the type of activations: a bias, or the scale of a norm."""
        return self._new(shape, current_precision().activations)

    def _new(self, shape: Sequence[int], dtype: str) -> paddle.Tensor:
        # Random values, Paddle's default, take half a second that the checkpoint overwrites.
        return self.create_parameter(list(shape), dtype=dtype, default_initializer=nn.initializer.Constant(0.0))

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        """The shape of the tensor in the checkpoint that fills a parameter, all ranks' parts together."""
        return tuple(getattr(self, parameter).shape)

    def accepts(self, parameter: str, shape: Sequence[int], shard: str | None = None) -> bool:
        """Whether a tensor of this shape can fill a parameter."""
        return tuple(shape) == tuple(self.stored_shape(parameter, shard))

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        """Fill a parameter with a tensor of the checkpoint, or with this rank's part of it.

        Args:
            parameter: an attribute of this layer.
            stored: of a shape that this layer `accepts`.
            shard: which of `shards` it is.
        """
        for rows in slabs(0, stored.shape[0], _row_bytes(stored.shape)):
            write(getattr(self, parameter), (rows,), stored.read(rows))


def slabs(begin: int, end: int, row_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """The rows from `begin` to `end` in slabs of about SLAB_BYTES, each of a multiple of so many rows."""
    step = max(1, SLAB_BYTES // max(1, row_bytes) // multiple) * multiple
    for start in range(begin, end, step):
        yield slice(start, min(start + step, end))


def _row_bytes(shape: Sequence[int]) -> int:
    return 4 * int(np.prod(shape[1:]))
