"""The feed-forward halves of a transformer layer."""

from collections.abc import Mapping

import paddle

from pooling.layers.activation import activation
from pooling.layers.layer import Layer
from pooling.layers.linear import ColumnParallelLinear, MergedColumnParallelLinear, RowParallelLinear


class FeedForward(Layer):
    """x [T, hidden] -> down(act(up(x))) [T, hidden]."""

    def __init__(self, hidden: int, inner: int, act: str) -> None:
        super().__init__()
        self.up = ColumnParallelLinear(hidden, inner)
        self.activation = activation(act)
        self.down = RowParallelLinear(inner, hidden)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(Layer):
    """x [T, hidden] -> down(act(gate(x)) * up(x)) [T, hidden] (Shazeer 2020); gate and up in one matrix product.

    Args:
        stored_whole: whether checkpoints hold gate and up as one tensor.
        reduce: whether the ranks' parts are summed here (`RowParallelLinear`).
    """

    def __init__(
        self,
        hidden: int,
        inner: int,
        act: str,
        *,
        bias: bool = False,
        stored_whole: bool = False,
        reduce: bool = True,
    ) -> None:
        super().__init__()
        widths: Mapping[str, int] = {"gate": inner, "up": inner}
        self.gate_up = MergedColumnParallelLinear(hidden, widths, bias=bias, stored_whole=stored_whole)
        self.inner = self.gate_up.parts[1].begin
        self.activation = activation(act)
        self.down = RowParallelLinear(inner, hidden, bias=bias, reduce=reduce)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        merged = self.gate_up(x)
        return self.down(self.activation(merged[:, : self.inner]) * merged[:, self.inner :])
