"""Linear layers; the merged one computes several that share their input in one matrix product."""

from collections.abc import Mapping

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.nn import functional

from pooling.layers.layer import WeightedLayer, check_shape


class Linear(WeightedLayer):
    """x [.., inputs] -> x @ weight + bias [.., outputs]. The weight is the transpose of what checkpoints store."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = self.new_parameter(inputs, outputs)
        self.bias = self.new_parameter(outputs) if bias else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return functional.linear(x, self.weight, self.bias)

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        target = getattr(self, parameter)
        check_shape(stored, target.shape[::-1])
        target.set_value(np.ascontiguousarray(stored.T))


class MergedLinear(Linear):
    """x [T, inputs] -> the outputs of several linear layers side by side, [T, sum of their widths].

    Args:
        widths: the outputs of each, by the name that checkpoints store it under, in the order of the result.
        stored_whole: whether checkpoints hold them as one tensor already, one below the other in this order.
    """

    def __init__(
        self, inputs: int, widths: Mapping[str, int], *, bias: bool = True, stored_whole: bool = False
    ) -> None:
        super().__init__(inputs, sum(widths.values()), bias=bias)
        self.widths = dict(widths)
        self.shards = () if stored_whole else tuple(widths)

    def load(self, parameter: str, stored: NDArray[np.float32], shard: str | None = None) -> None:
        target = getattr(self, parameter)
        if shard is None:
            check_shape(stored, target.shape[::-1])
            parts = np.split(stored, np.cumsum(list(self.widths.values()))[:-1])
            arranged = [self.arranged(part, name) for part, name in zip(parts, self.widths, strict=True)]
            super().load(parameter, np.concatenate(arranged))
            return
        check_shape(stored, [self.widths[shard], *target.shape[:-1]])
        names = list(self.widths)
        begin = sum(self.widths[name] for name in names[: names.index(shard)])
        values = np.ascontiguousarray(self.arranged(stored, shard).T)
        with paddle.no_grad():
            target[..., begin : begin + self.widths[shard]] = paddle.to_tensor(values)

    def arranged(self, stored: NDArray[np.float32], shard: str) -> NDArray[np.float32]:
        """A stored part [width, ..] as this layer wants it; the merged layers of attention change some."""
        return stored


class QKVLinear(MergedLinear):
    """x [T, hidden] -> queries, keys and values side by side [T, (heads + 2 kv_heads) x head_dim].

    The scale of attention is multiplied into the query weights while loading: no forward pays for it. Interleaved
    rotary embeddings (pairs of neighbours instead of halves) become plain ones by reordering the rows of queries and
    keys alike, which leaves their products as they are.

    Args:
        scale: multiplied into the queries; None means 1/sqrt(head_dim).
        interleaved: whether the checkpoint's rotary embedding turns neighbouring dimensions together.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        head_dim: int,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        interleaved: bool = False,
        stored_whole: bool = False,
    ) -> None:
        keys = (kv_heads or heads) * head_dim
        widths = {"query": heads * head_dim, "key": keys, "value": keys}
        super().__init__(hidden, widths, bias=bias, stored_whole=stored_whole)
        self.head_dim = head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.interleaved = interleaved

    def arranged(self, stored: NDArray[np.float32], shard: str) -> NDArray[np.float32]:
        if shard == "value":
            return stored
        if self.interleaved:
            pairs = stored.reshape(-1, self.head_dim // 2, 2, *stored.shape[1:])
            stored = pairs.swapaxes(1, 2).reshape(stored.shape)
        return stored * np.float32(self.scale) if shard == "query" else stored
