"""ModernBERT (Warner et al. 2024); reference: transformers.models.modernbert.modeling_modernbert."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.layers.activation import activation
from pooling.layers.attention import Attention, AttentionIndex, AttentionKind, AttentionPlan
from pooling.layers.embedding import VocabParallelEmbedding
from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear, QKVParallelLinear, RowParallelLinear
from pooling.layers.norm import LayerNorm
from pooling.models.interface import PoolingModel, default_pooling_type
from pooling.rotary import rotary_of
from pooling.settings import Settings


def layer_kinds(config: Settings) -> Sequence[str]:
    """Every third layer sees the whole sequence, the others a window, unless `layer_types` lists others."""
    layers = config.integer("num_hidden_layers")
    types = config.layer_types(layers)
    if types is not None:
        return types
    every = config.integer("global_attn_every_n_layers", default=3)
    return ["sliding" if number % every else "full" for number in range(layers)]


def _norm(config: Settings, hidden: int) -> LayerNorm:
    return LayerNorm(hidden, config.number("norm_eps", default=1e-5), bias=config.flag("norm_bias"))


class ModernBertAttention(Layer):
    """Rotary self-attention with its output projection."""

    def __init__(self, config: Settings, plan: AttentionPlan, kind: str) -> None:
        super().__init__()
        hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        biased = config.flag("attention_bias")
        self.qkv = QKVParallelLinear(hidden, heads, hidden // heads, bias=biased, stored_whole=True)
        self.attention = Attention(plan, kind, hidden // heads)
        self.output = RowParallelLinear(hidden, hidden, bias=biased)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.output(self.attention(self.qkv(x), index))


class ModernBertLayer(Layer):
    """Attention and gated feed-forward, each of the normalised input; the first layer's is normalised already."""

    def __init__(self, config: Settings, plan: AttentionPlan, kind: str, *, first: bool) -> None:
        super().__init__()
        hidden = config.integer("hidden_size")
        self.attention_norm = None if first else _norm(config, hidden)
        self.attention = ModernBertAttention(config, plan, kind)
        self.feed_forward_norm = _norm(config, hidden)
        self.feed_forward = GatedFeedForward(
            hidden,
            config.integer("intermediate_size"),
            config.text("hidden_activation", default="gelu"),
            bias=config.flag("mlp_bias"),
            stored_whole=True,
        )

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = x + self.attention(x if self.attention_norm is None else self.attention_norm(x), index)
        return x + self.feed_forward(self.feed_forward_norm(x))


class ModernBertHead(Layer):
    """A linear layer, its activation and a norm, then the classifier."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "dense.": "head.dense.",
        "norm.": "head.norm.",
        "output.": "classifier.",
    }

    def __init__(self, config: Settings, hidden: int, labels: int) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden, bias=config.flag("classifier_bias"))
        self.activation = activation(config.text("classifier_activation", default="gelu"))
        self.norm = _norm(config, hidden)
        self.output = Linear(hidden, labels)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.output(self.norm(self.activation(self.dense(rows))))


@default_pooling_type("MEAN")
class ModernBertForPooling(PoolingModel):
    """Rotary positions; most layers see only their neighbourhood."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "embeddings.word.": "embeddings.tok_embeddings.",
        "attention.qkv.": "attn.Wqkv.",
        "attention.output.": "attn.Wo.",
        "attention_norm.": "attn_norm.",
        "feed_forward_norm.": "mlp_norm.",
        "feed_forward.gate.": "mlp.Wi.",
        "feed_forward.up.": "mlp.Wi.",
        "feed_forward.down.": "mlp.Wo.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("head.", "decoder.")

    def __init__(self, spec: ModelSpec) -> None:
        """Raises CheckpointError if the hidden size is no multiple of the heads."""
        super().__init__(spec)
        config = spec.settings
        hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        if hidden % heads:
            raise config.refuse("num_attention_heads", heads, f"it must divide hidden_size {hidden}")
        kinds = layer_kinds(config)
        self.plan = AttentionPlan.of_rank(heads, heads, _attention_kinds(config, hidden // heads, kinds), rotated=True)
        self.embeddings = nn.LayerDict({"word": VocabParallelEmbedding(config.integer("vocab_size"), hidden)})
        self.embeddings["norm"] = _norm(config, hidden)
        self.layers = nn.LayerList(
            [ModernBertLayer(config, self.plan, kind, first=number == 0) for number, kind in enumerate(kinds)]
        )
        self.final_norm = _norm(config, hidden)

    def forward(
        self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor, index: AttentionIndex
    ) -> paddle.Tensor:
        x = self.embeddings["norm"](self.embeddings["word"](token_ids))
        for layer in self.layers:
            x = layer(x, index)
        return self.final_norm(x)

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return ModernBertHead(spec.settings, spec.hidden_size, spec.labels)


def _attention_kinds(config: Settings, head_dim: int, used: Sequence[str]) -> Mapping[str, AttentionKind]:
    """A sliding layer sees half of `local_attention` tokens each way, and has a rotary base of its own."""
    whole_theta = config.number("global_rope_theta", default=160_000.0)
    kinds = {}
    if "full" in used:
        rotary = rotary_of(config, head_dim, layer_type="full_attention", theta=whole_theta)
        kinds["full"] = AttentionKind(rotary=rotary)
    if "sliding" in used:
        theta = config.number("local_rope_theta", default=10_000.0)
        rotary = rotary_of(config, head_dim, layer_type="sliding_attention", theta=theta)
        reach = config.integer("local_attention", default=128) // 2
        kinds["sliding"] = AttentionKind(reach=reach, rotary=rotary)
    return kinds
