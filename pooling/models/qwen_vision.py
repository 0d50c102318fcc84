"""What the vision towers of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and ERNIE 4.5 VL share: packed patches of any images.

Layers are named as checkpoints name them. Reference: transformers.models.qwen2_vl.modeling_qwen2_vl.
"""

from collections.abc import Sequence

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.layers.activation import activation
from pooling.layers.attention import Attention, AttentionIndex, AttentionKind, AttentionPlan
from pooling.layers.layer import Layer
from pooling.layers.linear import ColumnParallelLinear, Linear, QKVParallelLinear, RowParallelLinear
from pooling.models.vision_tower import Layout
from pooling.precision import as_type, current_precision, unquantized
from pooling.rotary import axial
from pooling.tensors import tensor_of
from pooling.vision.layout import Grid
from pooling.vision.processors import PreparedImage

KIND = "full"


class PatchLinear(Linear):
    """patches [T, 3 x times x side x side] -> [T, outputs]; checkpoints store it as a convolution over three axes."""

    def __init__(self, times: int, side: int, outputs: int, *, channels: int = 3, bias: bool) -> None:
        with unquantized():  # it is these models' embedding
            super().__init__(channels * times * side * side, outputs, bias=bias)
        self.kernel: tuple[int, ...] = (channels, times, side, side)

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        shape = super().stored_shape(parameter, shard)
        return shape if parameter == "bias" else (shape[0], *self.kernel)

    def arranged(self, stored: NDArray[np.float32], part: str) -> NDArray[np.float32]:
        return stored.reshape(len(stored), -1) if stored.ndim > 1 else stored


class PatchEmbedding(Layer):
    """Pixels of patches [T, numbers of a patch] -> [T, hidden], in the type of activations."""

    def __init__(self, projection: Linear) -> None:
        super().__init__()
        self.activations = getattr(paddle, current_precision().activations)
        self.proj = projection

    def forward(self, patches: paddle.Tensor) -> paddle.Tensor:
        return self.proj(as_type(patches, self.activations))


class VisionAttention(Layer):
    """Every patch attends to all of its image, or of its window: x [T, hidden] -> [T, hidden]."""

    def __init__(self, plan: AttentionPlan, hidden: int, heads: int) -> None:
        super().__init__()
        self.qkv = QKVParallelLinear(hidden, heads, hidden // heads, stored_whole=True)
        self.attention = Attention(plan, KIND, hidden // heads)
        self.proj = RowParallelLinear(hidden, hidden)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.proj(self.attention(self.qkv(x), index))


class VisionFeedForward(Layer):
    """x [T, hidden] -> fc2(act(fc1(x))) [T, hidden]."""

    def __init__(self, hidden: int, inner: int, act: str) -> None:
        super().__init__()
        self.fc1 = ColumnParallelLinear(hidden, inner)
        self.activation = activation(act)
        self.fc2 = RowParallelLinear(inner, hidden)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class VisionBlock(Layer):
    """Attention and feed-forward, each of the normalised input and added to it."""

    def __init__(
        self, plan: AttentionPlan, hidden: int, heads: int, norms: tuple[Layer, Layer], feed_forward: Layer
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attn = VisionAttention(plan, hidden, heads)
        self.mlp = feed_forward

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = x + self.attn(self.norm1(x), index)
        return x + self.mlp(self.norm2(x))


class PatchMerger(Layer):
    """The patches of a token, normalised one by one, end to end through two layers: [T, hidden] -> [T / block, out]."""

    def __init__(self, norm: Layer, block_width: int, outputs: int) -> None:
        super().__init__()
        self.block_width = block_width
        self.ln_q = norm
        self.first = Linear(block_width, block_width)
        self.activation = activation("gelu")
        self.second = Linear(block_width, outputs)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.second(self.activation(self.first(self.ln_q(x).reshape([-1, self.block_width]))))


def vision_plan(hidden: int, heads: int, base: float = 10_000.0) -> AttentionPlan:
    """Patches see each other both ways, and are turned by their row and column; `base` is the rotary embedding's."""
    rotary = axial(hidden // heads, base)
    return AttentionPlan.of_rank(heads, heads, {KIND: AttentionKind(rotary=rotary)}, rotated=True)


def packed_patches(images: Sequence[PreparedImage]) -> paddle.Tensor:
    """The patches of images end to end, float32 [T, numbers of a patch]."""
    return tensor_of(np.concatenate([image.patches for image in images]))


def whole_images(grids: Sequence[Grid], axes: NDArray[np.int64]) -> Layout:
    """The patches of each image, of each of its times, see one another; with the row and column of each [2, T]."""
    return Layout([height * width for times, height, width in grids for _ in range(times)], axes)
