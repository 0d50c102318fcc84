"""The feed-forward halves of a transformer layer."""

from collections.abc import Mapping

import paddle

from pooling.layers.activation import activation
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear, MergedLinear


class FeedForward(Layer):
    """x [T, hidden] -> down(act(up(x))) [T, hidden]."""

    def __init__(self, hidden: int, inner: int, act: str) -> None:
        super().__init__()
        self.up = Linear(hidden, inner)
        self.activation = activation(act)
        self.down = Linear(inner, hidden)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(Layer):
    """x [T, hidden] -> down(act(gate(x)) * up(x)) [T, hidden] (Shazeer 2020); gate and up in one matrix product."""

    def __init__(self, hidden: int, inner: int, act: str, *, bias: bool = False, stored_whole: bool = False) -> None:
        super().__init__()
        self.inner = inner
        widths: Mapping[str, int] = {"gate": inner, "up": inner}
        self.gate_up = MergedLinear(hidden, widths, bias=bias, stored_whole=stored_whole)
        self.activation = activation(act)
        self.down = Linear(inner, hidden, bias=bias)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        merged = self.gate_up(x)
        return self.down(self.activation(merged[:, : self.inner]) * merged[:, self.inner :])
