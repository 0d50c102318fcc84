"""BERT (Devlin et al. 2018) as a backbone for pooling; reference: transformers.models.bert.modeling_bert."""

from collections.abc import Mapping
from typing import ClassVar

import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.layers.activation import activation
from pooling.layers.attention import Attention, AttentionIndex
from pooling.layers.embedding import Embedding
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear, QKVLinear
from pooling.layers.norm import LayerNorm
from pooling.models.interface import PoolingModel, default_pooling_type


class BertEmbeddings(Layer):
    """Word, position and segment vectors added up and normalised; all tokens are in segment 0."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        segments = spec.config.get("type_vocab_size", 2)
        assert isinstance(segments, int)
        self.word = Embedding(spec.vocab_size, spec.hidden_size)
        self.position = Embedding(spec.max_position_embeddings, spec.hidden_size)
        self.segment = Embedding(segments, spec.hidden_size)
        self.norm = LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor) -> paddle.Tensor:
        return self.norm(self.word(token_ids) + self.position(positions) + self.segment.weight[0])


class BertAttention(Layer):
    """Self-attention with its output projection."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        head_dim = spec.hidden_size // spec.num_attention_heads
        self.qkv = QKVLinear(spec.hidden_size, spec.num_attention_heads, head_dim)
        self.attention = Attention(spec.num_attention_heads, head_dim)
        self.output = Linear(spec.hidden_size, spec.hidden_size)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.output(self.attention(self.qkv(x), index))


class BertFeedForward(Layer):
    """Two linear layers around an activation."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.up = Linear(spec.hidden_size, spec.intermediate_size)
        self.activation = activation(spec.hidden_act)
        self.down = Linear(spec.intermediate_size, spec.hidden_size)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.down(self.activation(self.up(x)))


class BertLayer(Layer):
    """Attention and feed-forward, each followed by adding its input and normalising."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.attention = BertAttention(spec)
        self.attention_norm = LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.feed_forward = BertFeedForward(spec)
        self.feed_forward_norm = LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = self.attention_norm(x + self.attention(x, index))
        return self.feed_forward_norm(x + self.feed_forward(x))


@default_pooling_type("MEAN")
class BertForPooling(PoolingModel):
    """BERT without a head. The default is MEAN, as Sentence Transformers reads a bare BERT checkpoint."""

    checkpoint_prefix: ClassVar[str] = "bert."
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "embeddings.word.": "embeddings.word_embeddings.",
        "embeddings.position.": "embeddings.position_embeddings.",
        "embeddings.segment.": "embeddings.token_type_embeddings.",
        "embeddings.norm.": "embeddings.LayerNorm.",
        "layers.": "encoder.layer.",
        "attention.query.": "attention.self.query.",
        "attention.key.": "attention.self.key.",
        "attention.value.": "attention.self.value.",
        "attention.output.": "attention.output.dense.",
        "attention_norm.": "attention.output.LayerNorm.",
        "feed_forward.up.": "intermediate.dense.",
        "feed_forward.down.": "output.dense.",
        "feed_forward_norm.": "output.LayerNorm.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("pooler.", "cls.", "embeddings.position_ids")

    def __init__(self, spec: ModelSpec) -> None:
        """Raises CheckpointError for the variants of BERT that are not supported."""
        super().__init__(spec)
        position_kind = spec.config.get("position_embedding_type", "absolute")
        if position_kind != "absolute" or spec.config.get("is_decoder"):
            raise CheckpointError(
                f"config.json has position_embedding_type {position_kind} and is_decoder "
                f"{bool(spec.config.get('is_decoder'))}: use a BERT with absolute positions that is an encoder."
            )
        self.heads = spec.num_attention_heads
        self.embeddings = BertEmbeddings(spec)
        self.layers = nn.LayerList([BertLayer(spec) for _ in range(spec.num_hidden_layers)])

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = self.embeddings(token_ids, positions)
        for layer in self.layers:
            x = layer(x, index)
        return x
