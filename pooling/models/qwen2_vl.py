"""Qwen2-VL (Wang et al. 2024); reference: transformers.models.qwen2_vl.modeling_qwen2_vl."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.layers.attention import AttentionIndex
from pooling.layers.norm import LayerNorm
from pooling.models.decoder import DecoderForPooling
from pooling.models.images import ImageRows
from pooling.models.interface import default_pooling_type
from pooling.models.qwen2 import Qwen2ForPooling
from pooling.models.qwen_vision import (
    PatchEmbedding,
    PatchLinear,
    PatchMerger,
    VisionBlock,
    VisionFeedForward,
    packed_patches,
    vision_plan,
    whole_images,
)
from pooling.models.vision_tower import VisionTower
from pooling.settings import Settings
from pooling.vision.layout import patch_axes
from pooling.vision.processors import PreparedImage

EPSILON = 1e-6  # of all norms of the tower, whatever the configuration says


class Qwen2VisionTower(VisionTower):
    """Patches of packed images -> rows of the language model's width, a row for each `merge` x `merge` patches."""

    def __init__(self, config: Settings, outputs: int) -> None:
        hidden, heads = config.integer("embed_dim", default=1280), config.integer("num_heads", default=16)
        super().__init__(vision_plan(hidden, heads), hidden)
        inner = int(hidden * config.number("mlp_ratio", default=4.0))
        act = config.text("hidden_act", default="quick_gelu")
        self.merge = config.integer("spatial_merge_size", default=2)
        self.patch_embed = PatchEmbedding(
            PatchLinear(
                config.integer("temporal_patch_size", default=2),
                config.integer("patch_size", default=14),
                hidden,
                bias=False,
            )
        )
        self.blocks = nn.LayerList([self._block(hidden, heads, inner, act) for _ in range(config.integer("depth"))])
        self.merger = PatchMerger(LayerNorm(hidden, EPSILON), hidden * self.merge**2, outputs)

    def _block(self, hidden: int, heads: int, inner: int, act: str) -> VisionBlock:
        norms = (LayerNorm(hidden, EPSILON), LayerNorm(hidden, EPSILON))
        return VisionBlock(self.plan, hidden, heads, norms, VisionFeedForward(hidden, inner, act))

    def forward(self, images: Sequence[PreparedImage]) -> ImageRows:
        grids = [image.grid for image in images]
        layout = whole_images(grids, patch_axes(grids, self.merge))
        return self.layered(self.patch_embed(packed_patches(images)), [layout])

    def through(self, x: paddle.Tensor, indexes: Sequence[AttentionIndex]) -> list[paddle.Tensor]:
        for block in self.blocks:
            x = block(x, indexes[0])
        return [self.merger(x)]


class QwenVLForPooling(DecoderForPooling):
    """A decoder with a vision tower before it; a family names the tower."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = (
        "model.language_model.",
        "language_model.model.",
        "language_model.",
        "model.",
    )
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        **DecoderForPooling.checkpoint_names,
        "merger.first.": "merger.mlp.0.",
        "merger.second.": "merger.mlp.2.",
    }
    rotary_base: ClassVar[float] = 1_000_000.0

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        assert spec.vision is not None
        self.visual = self.tower(spec.vision, spec.hidden_size)

    @property
    def image_tower(self) -> VisionTower:
        return self.visual

    @classmethod
    def tower(cls, config: Settings, outputs: int) -> VisionTower:
        """The vision tower of a configuration."""
        raise NotImplementedError

    def image_rows(self, images: Sequence[PreparedImage]) -> ImageRows:
        rows: ImageRows = self.visual(images)
        return rows


@default_pooling_type("LAST")
class Qwen2VLForPooling(QwenVLForPooling, Qwen2ForPooling):
    """Qwen2 whose rotary embedding knows time, height and width, behind a tower that sees whole images."""

    @classmethod
    def tower(cls, config: Settings, outputs: int) -> VisionTower:
        return Qwen2VisionTower(config, outputs)
