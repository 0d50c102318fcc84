"""BERT (Devlin et al. 2018) as a backbone for pooling; reference: transformers.models.bert.modeling_bert."""

from collections.abc import Mapping
from typing import ClassVar

import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.layers.attention import Attention, AttentionIndex, AttentionPlan
from pooling.layers.embedding import Embedding
from pooling.layers.feed_forward import FeedForward
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear, QKVLinear
from pooling.layers.norm import LayerNorm
from pooling.models.interface import PoolingModel, default_pooling_type
from pooling.settings import Settings


def head_plan(config: Settings) -> AttentionPlan:
    """The heads of an encoder of this kind: as many for keys as for queries.

    Raises:
        CheckpointError: the hidden size is no multiple of their number.
    """
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % heads:
        raise config.refuse("num_attention_heads", heads, f"it must divide hidden_size {hidden}")
    return AttentionPlan(heads, heads)


class BertEmbeddings(Layer):
    """Word, position and segment vectors added up and normalised."""

    def __init__(self, config: Settings) -> None:
        super().__init__()
        hidden = config.integer("hidden_size")
        self.word = Embedding(config.integer("vocab_size"), hidden)
        self.position = Embedding(config.integer("max_position_embeddings"), hidden)
        self.segment = Embedding(config.integer("type_vocab_size", default=2), hidden)
        self.norm = LayerNorm(hidden, config.number("layer_norm_eps", default=1e-12))

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor) -> paddle.Tensor:
        return self.norm(self.word(token_ids) + self.position(positions) + self.segment(segments))


class BertAttention(Layer):
    """Self-attention with its output projection."""

    def __init__(self, config: Settings, plan: AttentionPlan) -> None:
        super().__init__()
        hidden = config.integer("hidden_size")
        head_dim = hidden // plan.heads
        self.qkv = QKVLinear(hidden, plan.heads, head_dim)
        self.attention = Attention(plan, "full", head_dim)
        self.output = Linear(hidden, hidden)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.output(self.attention(self.qkv(x), index))


class BertLayer(Layer):
    """Attention and feed-forward, each followed by adding its input and normalising."""

    def __init__(self, config: Settings, plan: AttentionPlan) -> None:
        super().__init__()
        hidden, epsilon = config.integer("hidden_size"), config.number("layer_norm_eps", default=1e-12)
        self.attention = BertAttention(config, plan)
        self.attention_norm = LayerNorm(hidden, epsilon)
        self.feed_forward = FeedForward(
            hidden, config.integer("intermediate_size"), config.text("hidden_act", default="gelu")
        )
        self.feed_forward_norm = LayerNorm(hidden, epsilon)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = self.attention_norm(x + self.attention(x, index))
        return self.feed_forward_norm(x + self.feed_forward(x))


class BertHead(Layer):
    """The first token's vector through a linear layer and tanh (BERT calls it the pooler), then the classifier."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {"dense.": "pooler.dense.", "output.": "classifier."}

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.output = Linear(hidden, labels)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.output(paddle.tanh(self.dense(rows)))


@default_pooling_type("MEAN")
class BertForPooling(PoolingModel):
    """BERT. The default is MEAN, as Sentence Transformers reads a bare BERT checkpoint."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("bert.",)
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
    inputs: ClassVar[tuple[str, ...]] = ("token_ids", "positions", "segments")
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("pooler.", "cls.", "embeddings.position_ids")

    def __init__(self, spec: ModelSpec) -> None:
        """Raises CheckpointError for the variants of BERT that are not supported."""
        super().__init__(spec)
        config = spec.settings
        position_kind = config.text("position_embedding_type", default="absolute")
        if position_kind != "absolute":
            raise config.refuse("position_embedding_type", position_kind, "use a BERT with absolute positions")
        if config.flag("is_decoder"):
            raise config.refuse("is_decoder", True, "use a BERT that is an encoder")
        self.plan = head_plan(config)
        self.embeddings = BertEmbeddings(config)
        self.layers = nn.LayerList([BertLayer(config, self.plan) for _ in range(config.integer("num_hidden_layers"))])

    def forward(
        self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor, index: AttentionIndex
    ) -> paddle.Tensor:
        x = self.embeddings(token_ids, positions, segments)
        for layer in self.layers:
            x = layer(x, index)
        return x

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return BertHead(spec.hidden_size, spec.labels)
