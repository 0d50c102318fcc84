"""SigLIP (Zhai et al. 2023), and SigLIP 2 for images of one size; reference: transformers.models.siglip."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import paddle
from paddle.nn import functional

from pooling.config import ModelSpec
from pooling.layers.attention import AttentionIndex, AttentionKind
from pooling.layers.layer import Layer, WeightedLayer
from pooling.layers.linear import Linear, Part, PartialLinear
from pooling.layers.norm import LayerNorm
from pooling.models.images import ImageRows
from pooling.models.interface import default_pooling_type
from pooling.models.qwen_vision import VisionFeedForward
from pooling.models.two_towers import ImageTower, TextTower, TowerShape, TwoTowers, stacked_patches, vision_settings
from pooling.packed import TokenIds
from pooling.padding import read_padding
from pooling.precision import as_type, unquantized
from pooling.settings import Settings
from pooling.vision.processors import PreparedImage


class ProbeAttention(Layer):
    """One learned query attends to all patches of an image: [N, P, hidden] -> [N, hidden]; whole on every rank.

    Checkpoints hold queries, keys and values as one tensor, as torch's MultiheadAttention does.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.hidden // shape.heads
        hidden = shape.hidden
        self.query = _within(hidden, slice(0, hidden))
        self.key_value = _within(hidden, slice(hidden, 3 * hidden))
        self.out_proj = Linear(hidden, hidden)

    def forward(self, probe: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        count, places = x.shape[0], x.shape[1]
        query = (self.query(probe) * self.head_dim**-0.5).reshape([1, self.heads, 1, self.head_dim])
        merged = self.key_value(x).reshape([count, places, 2, self.heads, self.head_dim]).transpose([2, 0, 3, 1, 4])
        key, value = merged[0], merged[1]
        scores = as_type(paddle.matmul(query, key, transpose_y=True), paddle.float32)
        attended = paddle.matmul(as_type(functional.softmax(scores), value.dtype), value)
        return self.out_proj(attended.reshape([count, self.heads * self.head_dim]))


def _within(hidden: int, rows: slice) -> PartialLinear:
    """The linear layer that some rows of a stored tensor of queries, keys and values make."""
    outputs = rows.stop - rows.start
    part = Part("", outputs, slice(0, outputs), 0)
    return PartialLinear(hidden, [part], bias=True, within=(rows.start, 3 * hidden))


class PoolingHead(WeightedLayer):
    """The patches of each image [N, P, hidden] -> one row [N, hidden], by attention and a feed-forward."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.probe = self.new_vector(1, 1, shape.hidden)
        self.attention = ProbeAttention(shape)
        self.layernorm = LayerNorm(shape.hidden, shape.epsilon)
        self.mlp = VisionFeedForward(shape.hidden, shape.inner, shape.act)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.attention(self.probe, x)
        return x + self.mlp(self.layernorm(x))


class SiglipImageTower(ImageTower):
    """Images of one size -> [N, hidden]."""

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if not config.flag("vision_use_head", default=True):
            raise config.refuse("vision_use_head", False, "without its head the model makes no embedding of an image")
        self.head = PoolingHead(TowerShape.of(config))

    def forward(self, images: Sequence[PreparedImage]) -> paddle.Tensor:
        return self.head(self.post_layernorm(self.encoded(self.embeddings(stacked_patches(images)))))


class SiglipTextTower(TextTower):
    """Packed tokens [T] -> [T, outputs]."""

    def __init__(self, config: Settings, outputs: int) -> None:
        super().__init__(config, AttentionKind())
        with unquantized():
            self.head = Linear(config.integer("hidden_size"), outputs)

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.head(super().forward(token_ids, positions, index))


@default_pooling_type("LAST")
class SiglipForPooling(TwoTowers):
    """SigLIP: every text is filled up to one length, sees all of it, and is pooled at the last place."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {
        **TwoTowers.checkpoint_names,
        "head.attention.query.": "head.attention.in_proj_",
        "head.attention.key_value.": "head.attention.in_proj_",
    }

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        vision = vision_settings(spec)
        if vision.integer("hidden_size") != spec.hidden_size:
            raise vision.refuse(
                "hidden_size", vision.get("hidden_size"), f"embeddings of texts are {spec.hidden_size} wide"
            )
        self.padding = read_padding(spec.directory, spec.settings)
        self.text_model = SiglipTextTower(spec.settings, spec.hidden_size)
        self.vision_model = SiglipImageTower(vision)
        self.plan = self.text_model.plan

    def sequence(self, ids: TokenIds) -> TokenIds:
        """A text filled up: the model was trained on no other."""
        filling = np.full(max(0, self.padding.length - len(ids)), self.padding.token_id, dtype=ids.dtype)
        return np.concatenate([filling, ids] if self.padding.side == "left" else [ids, filling])

    def text_rows(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        rows: paddle.Tensor = self.text_model(token_ids, positions, index)
        return rows

    def image_rows(self, images: Sequence[PreparedImage]) -> ImageRows:
        return [self.vision_model(images)]
