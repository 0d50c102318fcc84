"""What BERT and its descendants share: learned positions, layers of attention and feed-forward, each normalised after.

A family's file reads its configuration into an `EncoderShape`, and says how checkpoints call the tensors.
"""

from dataclasses import dataclass
from typing import ClassVar

import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.layers.attention import Attention, AttentionIndex, AttentionKind, AttentionPlan
from pooling.layers.embedding import Embedding, VocabParallelEmbedding
from pooling.layers.feed_forward import FeedForward
from pooling.layers.layer import Layer
from pooling.layers.linear import QKVParallelLinear, RowParallelLinear
from pooling.layers.norm import LayerNorm
from pooling.models.interface import PoolingModel
from pooling.settings import Settings


@dataclass(frozen=True)
class EncoderShape:
    """The sizes and options of an encoder.

    Attributes:
        hidden, inner: widths of the hidden states and within the feed-forward.
        heads, layers: their numbers.
        vocabulary, positions, segments: rows of the embeddings; 0 segments means there is no such embedding.
        first_position: the row of the first token's position.
        epsilon: of the norms.
        act: the feed-forward's activation.
    """

    hidden: int
    inner: int
    heads: int
    layers: int
    vocabulary: int
    positions: int
    segments: int
    first_position: int
    epsilon: float
    act: str

    @classmethod
    def of(cls, config: Settings, *, segments: bool = True, after_padding: bool = False) -> "EncoderShape":
        """The shape under the names that config.json has in these families.

        Args:
            segments: whether the family has an embedding of segments.
            after_padding: whether positions begin behind the padding token's id (RoBERTa, MPNet).

        Raises:
            CheckpointError: a number is missing, or the hidden size is no multiple of the heads.
        """
        hidden, heads = config.integer("hidden_size", "dim"), config.integer("num_attention_heads", "n_heads")
        if hidden % heads:
            raise config.refuse("num_attention_heads", heads, f"it must divide hidden_size {hidden}")
        return cls(
            hidden,
            config.integer("intermediate_size", "hidden_dim"),
            heads,
            config.integer("num_hidden_layers", "n_layers"),
            config.integer("vocab_size"),
            config.integer("max_position_embeddings"),
            config.integer("type_vocab_size", default=2) if segments else 0,
            int(config.number("pad_token_id", default=1)) + 1 if after_padding else 0,
            config.number("layer_norm_eps", default=1e-12),
            config.text("hidden_act", "activation", default="gelu"),
        )


class EncoderEmbeddings(Layer):
    """Word, position and, where there are some, segment vectors added up and normalised."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.first_position = shape.first_position
        self.word = VocabParallelEmbedding(shape.vocabulary, shape.hidden)
        self.position = Embedding(shape.positions, shape.hidden)
        self.segment = Embedding(shape.segments, shape.hidden) if shape.segments else None
        self.norm = LayerNorm(shape.hidden, shape.epsilon)

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor) -> paddle.Tensor:
        x = self.word(token_ids) + self.position(positions + self.first_position)
        return self.norm(x if self.segment is None else x + self.segment(segments))


class EncoderAttention(Layer):
    """Self-attention with its output projection."""

    def __init__(self, shape: EncoderShape, plan: AttentionPlan) -> None:
        super().__init__()
        head_dim = shape.hidden // shape.heads
        self.qkv = QKVParallelLinear(shape.hidden, shape.heads, head_dim)
        self.attention = Attention(plan, "full", head_dim)
        self.output = RowParallelLinear(shape.hidden, shape.hidden)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.output(self.attention(self.qkv(x), index))


class EncoderLayer(Layer):
    """Attention and feed-forward, each followed by adding its input and normalising."""

    def __init__(self, shape: EncoderShape, plan: AttentionPlan) -> None:
        super().__init__()
        self.attention = EncoderAttention(shape, plan)
        self.attention_norm = LayerNorm(shape.hidden, shape.epsilon)
        self.feed_forward = FeedForward(shape.hidden, shape.inner, shape.act)
        self.feed_forward_norm = LayerNorm(shape.hidden, shape.epsilon)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = self.attention_norm(x + self.attention(x, index))
        return self.feed_forward_norm(x + self.feed_forward(x))


class EncoderForPooling(PoolingModel):
    """Embeddings and layers. A family gives the shape."""

    inputs: ClassVar[tuple[str, ...]] = ("token_ids", "positions", "segments")

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        shape = self.shape(spec.settings)
        self.plan = AttentionPlan.of_rank(shape.heads, shape.heads, {"full": self.kind(spec.settings)})
        self.embeddings = EncoderEmbeddings(shape)
        self.layers = nn.LayerList([EncoderLayer(shape, self.plan) for _ in range(shape.layers)])

    def forward(
        self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor, index: AttentionIndex
    ) -> paddle.Tensor:
        x = self.embeddings(token_ids, positions, segments)
        for layer in self.layers:
            x = layer(x, index)
        return x

    @classmethod
    def shape(cls, config: Settings) -> EncoderShape:
        """The family's reading of its configuration."""
        return EncoderShape.of(config)

    @classmethod
    def kind(cls, config: Settings) -> AttentionKind:
        """How every layer attends."""
        return AttentionKind()
