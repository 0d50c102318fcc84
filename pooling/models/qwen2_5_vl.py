"""Qwen2.5-VL (Bai et al. 2025); reference: transformers.models.qwen2_5_vl.modeling_qwen2_5_vl.

Most layers of its tower attend within windows of an image, a few within the whole. Patches are put in the order of the
windows before the first layer, and tokens back into their own behind the last.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import paddle
from paddle import nn

from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.layer import Layer
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
    vision_index,
    vision_plan,
)
from pooling.settings import Settings
from pooling.tensors import tensor_of
from pooling.vision.layout import of_patches, patch_axes, windows
from pooling.vision.processors import PreparedImage

WHOLE = (7, 15, 23, 31)  # the layers that see whole images, where the configuration is silent


class Qwen25VisionTower(Layer):
    """Patches of packed images -> rows of the language model's width, a row for each `merge` x `merge` patches."""

    def __init__(self, config: Settings, outputs: int) -> None:
        super().__init__()
        hidden, heads = config.integer("hidden_size", default=3584), config.integer("num_heads", default=16)
        side = config.integer("patch_size", default=14)
        self.merge = config.integer("spatial_merge_size", default=2)
        self.window = config.integer("window_size", default=112) // self.merge // side  # in tokens
        whole = config.get("fullatt_block_indexes")
        self.whole = frozenset(whole if isinstance(whole, list) else WHOLE)
        self.plan = vision_plan(hidden, heads)
        self.patch_embed = PatchEmbedding(
            PatchLinear(config.integer("temporal_patch_size", default=2), side, hidden, bias=False)
        )
        inner, act = config.integer("intermediate_size", default=3420), config.text("hidden_act", default="silu")
        self.blocks = nn.LayerList([self._block(hidden, heads, inner, act) for _ in range(config.integer("depth"))])
        self.merger = PatchMerger(RMSNorm(hidden, EPSILON), hidden * self.merge**2, outputs)

    def _block(self, hidden: int, heads: int, inner: int, act: str) -> VisionBlock:
        norms = (RMSNorm(hidden, EPSILON), RMSNorm(hidden, EPSILON))
        return VisionBlock(self.plan, hidden, heads, norms, GatedFeedForward(hidden, inner, act, bias=True))

    def forward(self, images: Sequence[PreparedImage]) -> ImageRows:
        grids = [image.grid for image in images]
        found = windows(grids, self.merge, self.window)
        order = of_patches(found.order, self.merge)
        axes = patch_axes(grids, self.merge)[:, order]
        within_windows = vision_index(found.lengths, axes, self.plan)
        within_images = vision_index(
            [rows * columns for times, rows, columns in grids for _ in range(times)], axes, self.plan
        )
        x = paddle.gather(self.patch_embed(packed_patches(images)), tensor_of(order))
        for number, block in enumerate(self.blocks):
            x = block(x, within_images if number in self.whole else within_windows)
        return [paddle.gather(self.merger(x), tensor_of(np.argsort(found.order)))]


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
    def tower(cls, config: Settings, outputs: int) -> Layer:
        return Qwen25VisionTower(config, outputs)
