"""Qwen2.5-VL (Bai et al. 2025); reference: transformers.models.qwen2_5_vl.modeling_qwen2_5_vl.

Most layers of its tower attend within windows of an image, a few within the whole. Patches are put in the order of the
windows before the first layer, and tokens back into their own behind the last.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import paddle
from paddle import nn

from pooling.layers.attention import AttentionIndex
from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.norm import RMSNorm
from pooling.models.images import ImageRows
from pooling.models.interface import default_pooling_type
from pooling.models.qwen2 import Qwen2ForPooling
from pooling.models.qwen2_vl import EPSILON, QwenVLForPooling
from pooling.models.qwen_vision import (
    PatchEmbedding,
    PatchLinear,
    PatchMerger,
    VisionBlock,
    packed_patches,
    vision_plan,
    whole_images,
)
from pooling.models.vision_tower import Layout, VisionTower
from pooling.settings import Settings
from pooling.tensors import tensor_of
from pooling.vision.layout import of_patches, patch_axes, windows
from pooling.vision.processors import PreparedImage

WHOLE = (7, 15, 23, 31)  # the layers that see whole images, where the configuration is silent


class Qwen25VisionTower(VisionTower):
    """Patches of packed images -> rows of the language model's width, a row for each `merge` x `merge` patches."""

    def __init__(self, config: Settings, outputs: int) -> None:
        hidden, heads = config.integer("hidden_size", default=3584), config.integer("num_heads", default=16)
        depth, whole = config.integer("depth"), config.get("fullatt_block_indexes")
        sees_whole = [number in (whole if isinstance(whole, list) else WHOLE) for number in range(depth)]
        super().__init__(vision_plan(hidden, heads), hidden, layouts=len(set(sees_whole)))
        side = config.integer("patch_size", default=14)
        self.merge = config.integer("spatial_merge_size", default=2)
        self.window = config.integer("window_size", default=112) // self.merge // side  # in tokens
        self.sees_whole = sees_whole
        self.patch_embed = PatchEmbedding(
            PatchLinear(config.integer("temporal_patch_size", default=2), side, hidden, bias=False)
        )
        inner, act = config.integer("intermediate_size", default=3420), config.text("hidden_act", default="silu")
        self.blocks = nn.LayerList([self._block(hidden, heads, inner, act) for _ in range(depth)])
        self.merger = PatchMerger(RMSNorm(hidden, EPSILON), hidden * self.merge**2, outputs)

    def _block(self, hidden: int, heads: int, inner: int, act: str) -> VisionBlock:
        norms = (RMSNorm(hidden, EPSILON), RMSNorm(hidden, EPSILON))
        return VisionBlock(self.plan, hidden, heads, norms, GatedFeedForward(hidden, inner, act, bias=True))

    def forward(self, images: Sequence[PreparedImage]) -> ImageRows:
        grids = [image.grid for image in images]
        found = windows(grids, self.merge, self.window)
        order = of_patches(found.order, self.merge)
        axes = patch_axes(grids, self.merge)[:, order]
        layouts = {False: Layout(found.lengths.tolist(), axes), True: whole_images(grids, axes)}
        x = paddle.gather(self.patch_embed(packed_patches(images)), tensor_of(order))
        (rows,) = self.layered(x, [layouts[whole] for whole in sorted(set(self.sees_whole))])
        return [paddle.gather(rows, tensor_of(np.argsort(found.order)))]

    def through(self, x: paddle.Tensor, indexes: Sequence[AttentionIndex]) -> list[paddle.Tensor]:
        of = dict(zip(sorted(set(self.sees_whole)), indexes, strict=True))
        for whole, block in zip(self.sees_whole, self.blocks, strict=True):
            x = block(x, of[whole])
        return [self.merger(x)]


@default_pooling_type("LAST")
class Qwen25VLForPooling(QwenVLForPooling, Qwen2ForPooling):
    """Qwen2.5 whose rotary embedding knows time, height and width, behind a tower that looks through windows."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {
        **QwenVLForPooling.checkpoint_names,
        "mlp.gate.": "mlp.gate_proj.",
        "mlp.up.": "mlp.up_proj.",
        "mlp.down.": "mlp.down_proj.",
    }

    @classmethod
    def tower(cls, config: Settings, outputs: int) -> VisionTower:
        return Qwen25VisionTower(config, outputs)
