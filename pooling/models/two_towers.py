"""What CLIP and SigLIP share: a tower for texts and one for images of one size, whose results lie in one space.

Layers are named as checkpoints name them. Reference: transformers.models.clip.modeling_clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.layers.attention import Attention, AttentionIndex, AttentionKind, AttentionPlan
from pooling.layers.embedding import Embedding, VocabParallelEmbedding
from pooling.layers.layer import Layer, WeightedLayer
from pooling.layers.linear import QKVParallelLinear, RowParallelLinear
from pooling.layers.norm import LayerNorm
from pooling.models.images import PlacedImages
from pooling.models.interface import PoolingModel
from pooling.models.qwen_vision import PatchLinear, VisionFeedForward
from pooling.models.vision_tower import Layout, VisionTower
from pooling.precision import as_type, current_precision
from pooling.settings import Settings
from pooling.tensors import tensor_of
from pooling.vision.processors import PreparedImage

KIND = "full"

CHANNELS = 3


@dataclass(frozen=True)
class TowerShape:
    """The sizes and options of the layers of one tower.

    Attributes:
        hidden, inner: widths of the hidden states and within the feed-forward.
        heads, layers: their numbers.
        epsilon: of the norms.
        act: the feed-forward's activation.
    """

    hidden: int
    inner: int
    heads: int
    layers: int
    epsilon: float
    act: str

    @classmethod
    def of(cls, config: Settings) -> "TowerShape":
        """The shape that config.json's part about a tower states; raises CheckpointError for a wrong one."""
        hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        if hidden % heads:
            raise config.refuse("num_attention_heads", heads, f"it must divide hidden_size {hidden}")
        return cls(
            hidden,
            config.integer("intermediate_size"),
            heads,
            config.integer("num_hidden_layers"),
            config.number("layer_norm_eps"),
            config.text("hidden_act"),
        )

    def plan(self, kind: AttentionKind) -> AttentionPlan:
        """The heads of all layers, which attend in one way."""
        return AttentionPlan.of_rank(self.heads, self.heads, {KIND: kind})


class TowerAttention(Layer):
    """x [T, hidden] -> [T, hidden]."""

    def __init__(self, shape: TowerShape, plan: AttentionPlan) -> None:
        super().__init__()
        head_dim = shape.hidden // shape.heads
        self.qkv = QKVParallelLinear(shape.hidden, shape.heads, head_dim)
        self.attention = Attention(plan, KIND, head_dim)
        self.out_proj = RowParallelLinear(shape.hidden, shape.hidden)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.out_proj(self.attention(self.qkv(x), index))


class TowerLayer(Layer):
    """Attention and feed-forward, each of the normalised input and added to it."""

    def __init__(self, shape: TowerShape, plan: AttentionPlan) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(shape.hidden, shape.epsilon)
        self.self_attn = TowerAttention(shape, plan)
        self.layer_norm2 = LayerNorm(shape.hidden, shape.epsilon)
        self.mlp = VisionFeedForward(shape.hidden, shape.inner, shape.act)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = x + self.self_attn(self.layer_norm1(x), index)
        return x + self.mlp(self.layer_norm2(x))


class TowerLayers(Layer):
    """All layers of a tower."""

    def __init__(self, shape: TowerShape, plan: AttentionPlan) -> None:
        super().__init__()
        self.layers = nn.LayerList([TowerLayer(shape, plan) for _ in range(shape.layers)])

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        for layer in self.layers:
            x = layer(x, index)
        return x


class TextEmbeddings(Layer):
    """Word and position vectors added up."""

    def __init__(self, hidden: int, config: Settings) -> None:
        super().__init__()
        self.token_embedding = VocabParallelEmbedding(config.integer("vocab_size"), hidden)
        self.position_embedding = Embedding(config.integer("max_position_embeddings"), hidden)

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor) -> paddle.Tensor:
        return self.token_embedding(token_ids) + self.position_embedding(positions)


class TextTower(Layer):
    """Packed tokens [T] -> normalised hidden states [T, hidden]."""

    def __init__(self, config: Settings, kind: AttentionKind) -> None:
        super().__init__()
        shape = TowerShape.of(config)
        self.plan = shape.plan(kind)
        self.embeddings = TextEmbeddings(shape.hidden, config)
        self.encoder = TowerLayers(shape, self.plan)
        self.final_layer_norm = LayerNorm(shape.hidden, shape.epsilon)

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.final_layer_norm(self.encoder(self.embeddings(token_ids, positions), index))


class SquarePatchLinear(PatchLinear):
    """patches [T, 3 x side x side] -> [T, outputs]; checkpoints store it as a convolution over two axes."""

    def __init__(self, side: int, outputs: int, *, bias: bool) -> None:
        super().__init__(1, side, outputs, channels=CHANNELS, bias=bias)
        self.kernel = (CHANNELS, side, side)


class ImageEmbeddings(WeightedLayer):
    """Patches [N, P, 3 x side x side] -> [N, P, hidden] with their positions; with a class token [N, 1 + P, hidden].

    Args:
        class_token: whether a learned vector stands before the patches. The patches then have no bias.
    """

    def __init__(self, hidden: int, config: Settings, *, class_token: bool) -> None:
        super().__init__()
        side = config.integer("patch_size")
        count = (config.integer("image_size") // side) ** 2
        self.activations = getattr(paddle, current_precision().activations)
        self.class_embedding = self.new_vector(hidden) if class_token else None
        self.patch_embedding = SquarePatchLinear(side, hidden, bias=not class_token)
        self.position_embedding = Embedding(count + 1 if class_token else count, hidden)

    def forward(self, patches: paddle.Tensor) -> paddle.Tensor:
        x = self.patch_embedding(as_type(patches, self.activations))
        if self.class_embedding is not None:
            first = self.class_embedding.expand([x.shape[0], 1, x.shape[2]])
            x = paddle.concat([first, x], axis=1)
        return x + self.position_embedding(paddle.arange(x.shape[1]))


class ImageTower(VisionTower):
    """Images of one size, each alone, through embeddings and layers: [N, places, hidden].

    A family's tower says what stands before the layers, and what is made of their result.
    """

    class_token: ClassVar[bool] = False

    def __init__(self, config: Settings) -> None:
        shape = TowerShape.of(config)
        super().__init__(shape.plan(AttentionKind()), shape.hidden)
        if config.integer("num_channels", default=CHANNELS) != CHANNELS:
            raise config.refuse("num_channels", config.get("num_channels"), "use a model of images in red, green, blue")
        self.embeddings = ImageEmbeddings(shape.hidden, config, class_token=self.class_token)
        self.encoder = TowerLayers(shape, self.plan)
        self.post_layernorm = LayerNorm(shape.hidden, shape.epsilon)

    def encoded(self, x: paddle.Tensor) -> paddle.Tensor:
        """x [N, places, hidden] through the layers; the places of an image see one another."""
        count, places = x.shape[0], x.shape[1]
        (encoded,) = self.layered(x.reshape([-1, self.width]), [Layout([places] * count)])
        return encoded.reshape([count, places, self.width])

    def through(self, x: paddle.Tensor, indexes: Sequence[AttentionIndex]) -> list[paddle.Tensor]:
        return [self.encoder(x, indexes[0])]


def stacked_patches(images: Sequence[PreparedImage]) -> paddle.Tensor:
    """The patches of images of one size, float32 [N, P, numbers of a patch]."""
    return tensor_of(np.stack([image.patches for image in images]))


class TwoTowers(PoolingModel):
    """Texts go through one tower and images through the other; a sequence is either a text or one image.

    A family's class builds `text_model` and `vision_model`, and says what of their results is embedded.
    """

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ()
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "self_attn.query.": "self_attn.q_proj.",
        "self_attn.key.": "self_attn.k_proj.",
        "self_attn.value.": "self_attn.v_proj.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = (
        "logit_",
        "text_model.embeddings.position_ids",
        "vision_model.embeddings.position_ids",
    )
    inputs: ClassVar[tuple[str, ...]] = ("token_ids", "positions")
    vision_model: ImageTower

    @property
    def image_tower(self) -> VisionTower:
        return self.vision_model

    def forward(
        self,
        token_ids: paddle.Tensor,
        positions: paddle.Tensor,
        segments: paddle.Tensor,
        index: AttentionIndex,
        images: PlacedImages | None = None,
    ) -> paddle.Tensor:
        if images is None:
            return self.text_rows(token_ids, positions, index)
        if images.places.shape[0] == token_ids.shape[0]:
            return images.rows[0]  # images alone, in the order of their sequences
        return images.embedded(self.text_rows(token_ids, positions, index))

    def text_rows(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        """What each token would give if its sequence were pooled there [T, width of an embedding]."""
        raise NotImplementedError


def vision_settings(spec: ModelSpec) -> Settings:
    """config.json's part about images; raises CheckpointError where there is none."""
    if spec.vision is None:
        raise spec.settings.refuse("vision_config", None, f"{spec.architecture.name} needs a tower for images")
    return spec.vision
