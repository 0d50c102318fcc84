"""Qwen3-VL (Qwen team 2025); reference: transformers.models.qwen3_vl.modeling_qwen3_vl.

The language model looks at an image more than once (DeepStack, Meng et al. 2024): what layers of the tower see on the
way is added to the hidden states behind its first layers.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import paddle
from paddle import nn

from pooling.layers.activation import activation
from pooling.layers.attention import AttentionIndex
from pooling.layers.embedding import Embedding
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear
from pooling.layers.norm import LayerNorm
from pooling.models.images import ImageRows
from pooling.models.interface import default_pooling_type
from pooling.models.qwen2_vl import EPSILON, QwenVLForPooling
from pooling.models.qwen3 import Qwen3ForPooling
from pooling.models.qwen_vision import (
    PatchEmbedding,
    PatchLinear,
    VisionBlock,
    VisionFeedForward,
    packed_patches,
    vision_plan,
    whole_images,
)
from pooling.models.vision_tower import VisionTower
from pooling.settings import Settings
from pooling.tensors import tensor_of
from pooling.vision.layout import Grid, blended_positions, patch_axes
from pooling.vision.processors import PreparedImage

STACKED = (8, 16, 24)  # the layers of the tower whose output is added too, where the configuration is silent


class Qwen3PatchMerger(Layer):
    """The patches of a token end to end through two layers: [T, hidden] -> [T / block, outputs].

    Args:
        norm_merged: whether what lies end to end is normalised, or each patch by itself.
    """

    def __init__(self, hidden: int, block: int, outputs: int, *, norm_merged: bool) -> None:
        super().__init__()
        self.width = hidden * block
        self.norm_merged = norm_merged
        self.norm = LayerNorm(self.width if norm_merged else hidden, EPSILON)
        self.linear_fc1 = Linear(self.width, self.width)
        self.activation = activation("gelu")
        self.linear_fc2 = Linear(self.width, outputs)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        merged = self.norm(x.reshape([-1, self.width])) if self.norm_merged else self.norm(x).reshape([-1, self.width])
        return self.linear_fc2(self.activation(self.linear_fc1(merged)))


class Qwen3VisionTower(VisionTower):
    """Patches of packed images -> rows of the language model's width, of the last layer and of those on the way."""

    def __init__(self, config: Settings, outputs: int) -> None:
        hidden, heads = config.integer("hidden_size", default=1152), config.integer("num_heads", default=16)
        super().__init__(vision_plan(hidden, heads), hidden)
        self.merge = config.integer("spatial_merge_size", default=2)
        positions = config.integer("num_position_embeddings", default=2304)
        self.side = int(positions**0.5)
        if self.side**2 != positions:
            raise config.refuse("num_position_embeddings", positions, "it must be the square of a number")
        stacked = config.get("deepstack_visual_indexes")
        self.stacked = list(stacked if isinstance(stacked, list) else STACKED)
        self.patch_embed = PatchEmbedding(
            PatchLinear(
                config.integer("temporal_patch_size", default=2),
                config.integer("patch_size", default=16),
                hidden,
                bias=True,
            )
        )
        self.pos_embed = Embedding(positions, hidden)
        inner = config.integer("intermediate_size", default=4304)
        act = config.text("hidden_act", default="gelu_pytorch_tanh")
        self.blocks = nn.LayerList([self._block(hidden, heads, inner, act) for _ in range(config.integer("depth"))])
        block = self.merge**2
        self.merger = Qwen3PatchMerger(hidden, block, outputs, norm_merged=False)
        self.deepstack_merger_list = nn.LayerList(
            [Qwen3PatchMerger(hidden, block, outputs, norm_merged=True) for _ in self.stacked]
        )

    def _block(self, hidden: int, heads: int, inner: int, act: str) -> VisionBlock:
        norms = (LayerNorm(hidden, EPSILON), LayerNorm(hidden, EPSILON))
        return VisionBlock(self.plan, hidden, heads, norms, VisionFeedForward(hidden, inner, act))

    def forward(self, images: Sequence[PreparedImage]) -> ImageRows:
        grids = [image.grid for image in images]
        x = self.patch_embed(packed_patches(images))
        x = x + self._positions(grids).astype(x.dtype)
        return self.layered(x, [whole_images(grids, patch_axes(grids, self.merge))])

    def through(self, x: paddle.Tensor, indexes: Sequence[AttentionIndex]) -> list[paddle.Tensor]:
        on_the_way = {}
        for number, block in enumerate(self.blocks):
            x = block(x, indexes[0])
            if number in self.stacked:
                on_the_way[number] = self.deepstack_merger_list[self.stacked.index(number)](x)
        return [self.merger(x), *(on_the_way[number] for number in sorted(on_the_way))]

    def _positions(self, grids: Sequence[Grid]) -> paddle.Tensor:
        blend = blended_positions(grids, self.merge, self.side)
        rows = self.pos_embed(tensor_of(blend.rows))
        return (rows * tensor_of(blend.weights[..., None]).astype(rows.dtype)).sum(axis=1)


@default_pooling_type("LAST")
class Qwen3VLForPooling(QwenVLForPooling, Qwen3ForPooling):
    """Qwen3 whose rotary embedding knows time, height and width in turns, behind a tower with learned positions."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {
        **QwenVLForPooling.checkpoint_names,
        "mlp.fc1.": "mlp.linear_fc1.",
        "mlp.fc2.": "mlp.linear_fc2.",
    }
    rotary_base: ClassVar[float] = 500_000.0

    @classmethod
    def tower(cls, config: Settings, outputs: int) -> VisionTower:
        return Qwen3VisionTower(config, outputs)
