"""Linear layers whose weight a checkpoint may hold transposed, as Paddle's own checkpoints do."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pooling.layers.layer import Stored
from pooling.layers.linear import Linear


class Transposed:
    """A matrix in a checkpoint as if it were stored the other way round."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.shape: Sequence[int] = tuple(stored.shape)[::-1]

    def read(self, rows: slice, columns: slice | None = None) -> NDArray[np.float32]:
        """As of `Stored`; the rows are the columns that are stored."""
        return self._stored.read(columns or slice(0, self.shape[1]), rows).T


class LinearStoredEitherWay(Linear):
    """A linear layer whose stored weight is [inputs, outputs] or, as everywhere else, [outputs, inputs].

    The shape tells; where both are the same number, it is taken for [inputs, outputs].
    """

    def accepts(self, parameter: str, shape: Sequence[int], shard: str | None = None) -> bool:
        wanted = tuple(self.stored_shape(parameter, shard))
        return tuple(shape) in (wanted, wanted[::-1])

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        transposed = parameter == "weight" and tuple(stored.shape) == (self.inputs, self.weight.shape[0])
        super().load(parameter, Transposed(stored) if transposed else stored, shard)
