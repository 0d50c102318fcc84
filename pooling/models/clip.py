"""CLIP (Radford et al. 2021); reference: transformers.models.clip.modeling_clip."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import paddle

from pooling.config import ModelSpec
from pooling.layers.attention import AttentionIndex, AttentionKind
from pooling.layers.linear import Linear
from pooling.layers.norm import LayerNorm
from pooling.models.images import ImageRows
from pooling.models.interface import default_pooling_type
from pooling.models.two_towers import ImageTower, TextTower, TowerShape, TwoTowers, stacked_patches, vision_settings
from pooling.packed import TokenIds
from pooling.precision import unquantized
from pooling.settings import Settings
from pooling.vision.processors import PreparedImage

# What configurations called the end of a text by mistake. Of those the highest id of a text is its end.
MISTAKEN_END = 2


class ClipImageTower(ImageTower):
    """Images of one size -> the normalised state of a class token that stands before the patches [N, hidden]."""

    class_token: ClassVar[bool] = True

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        shape = TowerShape.of(config)
        self.pre_layrnorm = LayerNorm(shape.hidden, shape.epsilon)  # so spelt in every checkpoint

    def forward(self, images: Sequence[PreparedImage]) -> paddle.Tensor:
        x = self.encoded(self.pre_layrnorm(self.embeddings(stacked_patches(images))))
        return self.post_layernorm(x[:, 0])


@default_pooling_type("LAST")
class ClipForPooling(TwoTowers):
    """CLIP: a causal tower of text, pooled where the text ends; both towers' results are projected into one space."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        text, vision = spec.settings, vision_settings(spec)
        self.end = text.integer("eos_token_id")
        self.text_model = TextTower(text, AttentionKind(causal=True))
        self.vision_model = ClipImageTower(vision)
        with unquantized():
            self.text_projection = Linear(text.integer("hidden_size"), spec.hidden_size, bias=False)
            self.visual_projection = Linear(vision.integer("hidden_size"), spec.hidden_size, bias=False)
        self.plan = self.text_model.plan

    def sequence(self, ids: TokenIds) -> TokenIds:
        """A text up to its first end, where it is pooled; nothing behind it is seen from there.

        A text without an end, which no tokenizer makes, is pooled at its last token.
        """
        if self.end == MISTAKEN_END:
            place = int(np.argmax(ids))
            return ids[: place + 1] if place else ids
        places = np.flatnonzero(ids == self.end)
        return ids[: places[0] + 1] if places.size else ids

    def text_rows(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.text_projection(self.text_model(token_ids, positions, index))

    def image_rows(self, images: Sequence[PreparedImage]) -> ImageRows:
        return [self.visual_projection(self.vision_model(images))]
