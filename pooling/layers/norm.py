"""Normalisation layers."""

import paddle
from paddle.nn import functional

from pooling.layers.layer import WeightedLayer


class LayerNorm(WeightedLayer):
    """x [T, width] -> each row with mean 0 and variance 1, then scaled and shifted (Ba et al. 2016)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.width = width
        self.epsilon = epsilon
        self.weight = self.new_parameter(width)
        self.bias = self.new_parameter(width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return functional.layer_norm(x, [self.width], self.weight, self.bias, self.epsilon)
