"""The vision tower of ERNIE 4.5 VL and its resampler; reference: transformers.models.ernie4_5_vl_moe.

Layers are named as checkpoints name them. An image is one moment, and the resampler merges two: an image stands for
both. Numbers are read under the names that transformers has for them, or Baidu's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import paddle
from paddle import nn

from pooling.layers.attention import AttentionIndex
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear
from pooling.layers.norm import LayerNorm, RMSNorm
from pooling.models.qwen_vision import (
    PatchEmbedding,
    VisionBlock,
    VisionFeedForward,
    packed_patches,
    vision_plan,
    whole_images,
)
from pooling.models.vision_tower import VisionTower
from pooling.precision import unquantized
from pooling.settings import Settings
from pooling.vision.layout import patch_axes
from pooling.vision.processors import PreparedImage

# Moments that the resampler merges into one; its weights are stored for so many.
MOMENTS = 2


@dataclass(frozen=True)
class VisionShape:
    """The sizes and options of tower and resampler.

    Attributes:
        hidden, inner: widths of the hidden states and within the feed-forward.
        heads, depth: of attention, and how many blocks there are.
        patch: numbers of a patch.
        merge: patches of a token's side.
        act: the feed-forward's activation.
        epsilon: of the layer norms.
        theta: the base of the rotary embedding.
    """

    hidden: int
    inner: int
    heads: int
    depth: int
    patch: int
    merge: int
    act: str
    epsilon: float
    theta: float

    @classmethod
    def of(cls, config: Settings, whole: Settings) -> Self:
        """The shape.

        Args:
            config: config.json's part about the vision tower.
            whole: all of config.json, where Baidu's own has how patches and moments are merged.

        Raises:
            CheckpointError: a number is wrong, the heads do not divide the width into multiples of four, or another
                number of moments than two is merged.
        """
        hidden, heads = (
            config.integer("hidden_size", "embed_dim", default=1280),
            config.integer("num_heads", default=16),
        )
        if hidden % (4 * heads):
            raise config.refuse("num_heads", heads, f"each must have a multiple of 4 of hidden_size {hidden}")
        moments = config.integer("temporal_merge_size", default=whole.integer("temporal_conv_size", default=MOMENTS))
        if moments != MOMENTS:
            raise config.refuse("temporal_merge_size", moments, f"use a model that merges {MOMENTS} moments")
        inner = int(hidden * config.number("mlp_ratio", default=4.0))
        rotary = config.section("rope_parameters") or Settings({}, config.path)
        return cls(
            hidden,
            config.integer("intermediate_size", default=inner),
            heads,
            config.integer("depth", default=32),
            config.integer("in_channels", "in_chans", default=3) * config.integer("patch_size", default=14) ** 2,
            config.integer("spatial_merge_size", default=whole.integer("spatial_conv_size", default=2)),
            config.text("hidden_act", default="quick_gelu"),
            config.number("rms_norm_eps", default=1e-6),
            rotary.number("rope_theta", default=10_000.0),
        )


class ErnieVisionTower(VisionTower):
    """Patches of packed images -> their hidden states [T, hidden]; each patch sees all of its image."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__(vision_plan(shape.hidden, shape.heads, shape.theta), shape.hidden)
        self.merge = shape.merge
        with unquantized():  # it is the tower's embedding
            self.patch_embed = PatchEmbedding(Linear(shape.patch, shape.hidden, bias=False))
        self.blocks = nn.LayerList([self._block(shape) for _ in range(shape.depth)])
        self.ln = LayerNorm(shape.hidden, shape.epsilon)

    def _block(self, shape: VisionShape) -> VisionBlock:
        norms = (LayerNorm(shape.hidden, shape.epsilon), LayerNorm(shape.hidden, shape.epsilon))
        feed_forward = VisionFeedForward(shape.hidden, shape.inner, shape.act)
        return VisionBlock(self.plan, shape.hidden, shape.heads, norms, feed_forward)

    def forward(self, images: Sequence[PreparedImage]) -> paddle.Tensor:
        grids = [image.grid for image in images]
        layout = whole_images(grids, patch_axes(grids, self.merge))
        return self.layered(self.patch_embed(packed_patches(images)), [layout])[0]

    def through(self, x: paddle.Tensor, indexes: Sequence[AttentionIndex]) -> list[paddle.Tensor]:
        for block in self.blocks:
            x = block(x, indexes[0])
        return [self.ln(x)]


class Resampler(Layer):
    """Hidden states of patches [T, hidden] -> a row for each `merge` x `merge` of them [T / merge^2, outputs].

    Args:
        outputs, epsilon: the language model's width, and of its norms.
    """

    def __init__(self, shape: VisionShape, outputs: int, epsilon: float) -> None:
        super().__init__()
        self.width = shape.hidden * shape.merge**2
        self.spatial_linear = self._merging(self.width, shape.epsilon)
        self.temporal_linear = self._merging(MOMENTS * self.width, shape.epsilon)
        self.mlp = Linear(self.width, outputs)
        self.after_norm = RMSNorm(outputs, epsilon)

    def _merging(self, inputs: int, epsilon: float) -> nn.Sequential:
        """Two layers and a norm; checkpoints number them through with the activation."""
        return nn.Sequential(
            Linear(inputs, self.width), nn.GELU(), Linear(self.width, self.width), LayerNorm(self.width, epsilon)
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.spatial_linear(x.reshape([-1, self.width]))
        x = self.temporal_linear(paddle.concat([x] * MOMENTS, axis=-1))
        return self.after_norm(self.mlp(x))
