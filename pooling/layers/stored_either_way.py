"""Linear layers whose weight a checkpoint may hold transposed, as Paddle's own checkpoints do."""

import numpy as np
from numpy.typing import NDArray

from pooling.layers.linear import Linear, MergedLinear


class LinearStoredEitherWay(Linear):
    """A linear layer whose stored weight is [inputs, outputs] or, as everywhere else, [outputs, inputs].

    The shape tells; where both are the same number, it is taken for [inputs, outputs].
    """

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        transposed = parameter == "weight" and list(stored.shape) == list(self.weight.shape)
        super().load(parameter, stored.T if transposed else stored, shard)


class MergedLinearStoredEitherWay(LinearStoredEitherWay, MergedLinear):
    """Several linear layers, stored as one weight in either way."""
