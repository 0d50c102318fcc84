"""Normalisation layers."""

from collections.abc import Sequence

import paddle
from paddle.incubate.nn.functional import fused_rms_norm
from paddle.nn import functional

from pooling.device import processor_has_avx512
from pooling.layers.layer import Stored, WeightedLayer
from pooling.parallel import group
from pooling.precision import write


def rms_normalised(x: paddle.Tensor, weight: paddle.Tensor, epsilon: float) -> paddle.Tensor:
    """x [..., width] -> each row divided by its root mean square, and scaled by weight [width]."""
    if not paddle.get_device().startswith("cpu") or processor_has_avx512():
        # One operator: written out in its parts it takes three times as long.
        return fused_rms_norm(x, weight, None, epsilon, x.ndim - 1)[0]
    # On a CPU Paddle 3.3.1 has that operator for AVX-512 alone, and dies of an illegal instruction without. The mean is
    # a product, which is quicker, and right: compiled, Paddle's own mean is wrong for three dimensions.
    width = x.shape[-1]
    squares = paddle.matmul(x * x, paddle.full([width, 1], 1 / width, x.dtype))
    return x * weight * paddle.rsqrt(squares + epsilon)


class LayerNorm(WeightedLayer):
    """x [T, width] -> each row with mean 0 and variance 1, then scaled and shifted (Ba et al. 2016)."""

    def __init__(self, width: int, epsilon: float, *, bias: bool = True) -> None:
        super().__init__()
        self.width = width
        self.epsilon = epsilon
        self.weight = self.new_vector(width)
        if bias:
            self.bias = self.new_vector(width)
        else:
            # Compiled, Paddle 3.3.1's oneDNN norm without a shift is wrong: one of zeros it is.
            self.register_buffer("bias", paddle.zeros([width], self.weight.dtype), persistable=False)

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
        self.weight = self.new_vector(width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return rms_normalised(x, self.weight, self.epsilon)

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        whole = slice(0, stored.shape[0])
        write(self.weight, (whole,), stored.read(whole) + self.offset)


class HeadNorm(WeightedLayer):
    """RMSNorm of every query and key head on its own (Qwen3, Gemma 3): [T, heads + kv_heads, head_dim] -> the same.

    Normalising undoes what was multiplied into the query weights, so the scale of attention is multiplied in here.

    Args:
        heads, kv_heads: of all ranks together; the layer holds this rank's.
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
        queries, keys = group().share_of_heads(heads, kv_heads)
        heads, kv_heads = queries.stop - queries.start, keys.stop - keys.start
        self.places = {"query": slice(0, heads), "key": slice(heads, heads + kv_heads)}
        self.head_dim = head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.epsilon = epsilon
        self.offset = offset
        self.weight = self.new_vector(heads + kv_heads, head_dim)
        self.register_buffer("ones", paddle.ones([head_dim], self.weight.dtype), persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return rms_normalised(x, self.ones, self.epsilon) * self.weight

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        return (self.head_dim,)

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        assert shard is not None
        values = stored.read(slice(0, self.head_dim)) + self.offset
        write(self.weight, (self.places[shard],), values * self.scale if shard == "query" else values)
