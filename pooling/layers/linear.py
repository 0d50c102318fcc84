"""Linear layers; the merged one computes query, key and value in one matrix product."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.nn import functional

from pooling.layers.layer import WeightedLayer, check_shape


class Linear(WeightedLayer):
    """x [.., inputs] -> x @ weight + bias [.., outputs]. The weight is the transpose of what checkpoints store."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = self.new_parameter(inputs, outputs)
        self.bias = self.new_parameter(outputs)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return functional.linear(x, self.weight, self.bias)

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        target = getattr(self, parameter)
        check_shape(stored, target.shape[::-1])
        target.set_value(np.ascontiguousarray(stored.T))


class QKVLinear(Linear):
    """x [T, hidden] -> queries, keys and values side by side [T, 3 x heads x head_dim].

    The 1/sqrt(head_dim) of attention is multiplied into the query weights while loading: no forward pays for it.
    """

    shards: ClassVar[Sequence[str]] = ("query", "key", "value")

    def __init__(self, hidden: int, heads: int, head_dim: int) -> None:
        super().__init__(hidden, 3 * heads * head_dim)
        self.width = heads * head_dim
        self.scale = head_dim**-0.5

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        assert shard is not None
        target = getattr(self, parameter)
        check_shape(stored, [self.width, *target.shape[:-1]])
        values = stored.T * np.float32(self.scale) if shard == "query" else stored.T
        begin = self.shards.index(shard) * self.width
        with paddle.no_grad():
            target[..., begin : begin + self.width] = paddle.to_tensor(np.ascontiguousarray(values))
