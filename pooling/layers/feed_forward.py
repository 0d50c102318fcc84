"""The feed-forward halves of a transformer layer."""

import paddle

from pooling.layers.activation import activation
from pooling.layers.layer import Layer
from pooling.layers.linear import ColumnParallelLinear, RowParallelLinear


class FeedForward(Layer):
    """x [T, hidden] -> down(act(up(x))) [T, hidden]."""

    def __init__(self, hidden: int, inner: int, act: str) -> None:
        super().__init__()
        self.up = ColumnParallelLinear(hidden, inner)
        self.activation = activation(act)
        self.down = RowParallelLinear(inner, hidden)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.down(self.activation(self.up.narrow(x)))


class GatedFeedForward(Layer):
    """x [T, hidden] -> down(act(gate(x)) * up(x)) [T, hidden] (Shazeer 2020).

    Gate and up are two products: of one, each half would have to be copied out. Both are widened before they meet: left
    in 16 bits they would be rounded three times more.

    Args:
        stored_whole: whether checkpoints hold gate and up as one tensor, the gate first.
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
        whole = 2 * inner
        self.gate = ColumnParallelLinear(hidden, inner, bias=bias, within=(0, whole) if stored_whole else None)
        self.up = ColumnParallelLinear(hidden, inner, bias=bias, within=(inner, whole) if stored_whole else None)
        self.activation = activation(act)
        self.down = RowParallelLinear(inner, hidden, bias=bias, reduce=reduce)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))
