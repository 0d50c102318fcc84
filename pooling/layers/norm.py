"""Normalisation layers."""

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.incubate.nn.functional import fused_rms_norm
from paddle.nn import functional

from pooling.layers.layer import WeightedLayer, check_shape


class LayerNorm(WeightedLayer):
    """x [T, width] -> each row with mean 0 and variance 1, then scaled and shifted (Ba et al. 2016)."""

    def __init__(self, width: int, epsilon: float, *, bias: bool = True) -> None:
        super().__init__()
        self.width = width
        self.epsilon = epsilon
        self.weight = self.new_parameter(width)
        if bias:
            self.bias = self.new_parameter(width)
        else:
            # Compiled, Paddle 3.3.1's oneDNN norm without a shift is wrong: one of zeros it is.
            self.register_buffer("bias", paddle.zeros([width]), persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return functional.layer_norm(x, [self.width], self.weight, self.bias, self.epsilon)


class RMSNorm(WeightedLayer):
    """x [T, width] -> each row divided by its root mean square, then scaled (Zhang and Sennrich 2019).

    Args:
        offset: added to the stored weights while loading; Gemma stores them around 0 and adds 1.
    """

    def __init__(self, width: int, epsilon: float, *, offset: float = 0.0) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.offset = offset
        self.weight = self.new_parameter(width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        # One operator: written out in its parts it takes four times as long on a CPU.
        return fused_rms_norm(x, self.weight, None, self.epsilon, x.ndim - 1)[0]

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        super().load(parameter, stored + np.float32(self.offset))


class HeadNorm(WeightedLayer):
    """RMSNorm of every query and key head on its own (Qwen3, Gemma 3): [T, heads + kv_heads, head_dim] -> the same.

    Normalising undoes what was multiplied into the query weights, so the scale of attention is multiplied in here.

    Args:
        scale: multiplied into the queries; None means 1/sqrt(head_dim).
        offset: as of RMSNorm.
    """

    shards = ("query", "key")

    def __init__(
        self,
        heads: int,
        kv_heads: int,
        head_dim: int,
        epsilon: float,
        *,
        scale: float | None = None,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.counts = {"query": heads, "key": kv_heads}
        self.scale = head_dim**-0.5 if scale is None else scale
        self.epsilon = epsilon
        self.offset = offset
        self.weight = self.new_parameter(heads + kv_heads, head_dim)
        self.register_buffer("ones", paddle.ones([head_dim]), persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        # Compiled, Paddle 3.3.1's mean of squares is wrong for three dimensions; the fused norm is right.
        return fused_rms_norm(x, self.ones, None, self.epsilon, 2)[0] * self.weight

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        assert shard is not None
        check_shape(stored, self.weight.shape[1:])
        values = stored + np.float32(self.offset)
        if shard == "query":
            values = values * np.float32(self.scale)
        begin = 0 if shard == "query" else self.counts["query"]
        with paddle.no_grad():
            self.weight[begin : begin + self.counts[shard]] = paddle.to_tensor(np.tile(values, (self.counts[shard], 1)))
