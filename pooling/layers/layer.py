"""What every layer is, and how those with weights make and fill their parameters."""

from collections.abc import Sequence

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn


class Layer(nn.Layer):  # type: ignore[misc]  # Paddle has no types; nothing else need say so
    """A part of a model."""


class WeightedLayer(Layer):
    """A layer that owns parameters and knows how a checkpoint stores them.

    Attributes:
        shards: the names under which a checkpoint holds the parts of this layer, where it merges several into one.
    """

    shards: Sequence[str] = ()

    def new_parameter(self, *shape: int) -> paddle.Tensor:
        """A parameter of zeros; random values, Paddle's default, take half a second that the checkpoint overwrites."""
        return self.create_parameter(list(shape), default_initializer=nn.initializer.Constant(0.0))

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        """Fill a parameter with a tensor of the checkpoint.

        Raises:
            ValueError: the shapes differ; the message gives both.
        """
        target = getattr(self, parameter)
        check_shape(stored, target.shape)
        target.set_value(stored)


def check_shape(stored: NDArray[np.float32], wanted: Sequence[int]) -> None:
    """Raise ValueError, with both shapes, for a tensor of the checkpoint that is not of the shape a layer needs."""
    if list(stored.shape) != list(wanted):
        raise ValueError(f"has the shape {list(stored.shape)} where the model needs {list(wanted)}")
