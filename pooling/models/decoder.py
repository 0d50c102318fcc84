"""What Llama and its descendants share: layers of rotary grouped-query attention and a gated feed-forward, RMS norms.

A family's file reads its configuration into a `DecoderShape` and says which layers attend how.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import paddle
from paddle import nn

from pooling.config import ModelSpec
from pooling.layers.attention import Attention, AttentionIndex, AttentionKind, AttentionPlan
from pooling.layers.embedding import VocabParallelEmbedding
from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.layer import Layer
from pooling.layers.linear import QKVParallelLinear, RowParallelLinear
from pooling.layers.norm import HeadNorm, RMSNorm
from pooling.models.heads import LinearHead
from pooling.models.images import PlacedImages
from pooling.models.interface import PoolingModel
from pooling.rotary import rotary_of
from pooling.settings import Settings


@dataclass(frozen=True)
class DecoderShape:
    """The sizes and options of a decoder.

    Attributes:
        hidden, inner: widths of the hidden states and within the feed-forward.
        heads, kv_heads, head_dim: of attention; head_dim need not be hidden / heads.
        epsilon: of the norms.
        act: the feed-forward's activation.
        qkv_bias, output_bias, feed_forward_bias: which linear layers have one.
        head_norm: whether every query and key head is normalised (Qwen3).
        interleaved: whether the rotary embedding turns neighbouring dimensions together (ERNIE).
        norm_offset: added to the stored weights of all norms (Gemma).
        scale: of attention; None means 1/sqrt(head_dim).
    """

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    act: str
    qkv_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False
    head_norm: bool = False
    interleaved: bool = False
    norm_offset: float = 0.0
    scale: float | None = None

    @classmethod
    def of(
        cls,
        config: Settings,
        *,
        qkv_bias: bool = False,
        output_bias: bool = False,
        feed_forward_bias: bool = False,
        head_norm: bool = False,
        interleaved: bool = False,
        norm_offset: float = 0.0,
        scale: float | None = None,
        epsilon: float = 1e-6,
        act: str = "silu",
    ) -> "DecoderShape":
        """The shape under the names that config.json has in all these families.

        `epsilon` and `act` are those of the family where the configuration is silent.

        Raises:
            CheckpointError: a number is missing, or the query heads are no multiple of the key heads.
        """
        hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        kv_heads = config.integer("num_key_value_heads", default=heads)
        if heads % kv_heads:
            raise config.refuse("num_key_value_heads", kv_heads, f"it must divide num_attention_heads {heads}")
        return cls(
            hidden,
            config.integer("intermediate_size"),
            heads,
            kv_heads,
            config.integer("head_dim", default=max(1, hidden // heads)),
            config.number("rms_norm_eps", default=epsilon),
            config.text("hidden_act", "hidden_activation", default=act),
            qkv_bias,
            output_bias,
            feed_forward_bias,
            head_norm,
            interleaved,
            norm_offset,
            scale,
        )


class DecoderAttention(Layer):
    """Attention with its output projection, x [T, hidden] -> [T, hidden]."""

    def __init__(self, shape: DecoderShape, plan: AttentionPlan, kind: str) -> None:
        super().__init__()
        self.qkv = QKVParallelLinear(
            shape.hidden,
            shape.heads,
            shape.head_dim,
            kv_heads=shape.kv_heads,
            bias=shape.qkv_bias,
            scale=1.0 if shape.head_norm else shape.scale,
            interleaved=shape.interleaved,
        )
        norm = None
        if shape.head_norm:
            norm = HeadNorm(
                shape.heads,
                shape.kv_heads,
                shape.head_dim,
                shape.epsilon,
                scale=shape.scale,
                offset=shape.norm_offset,
            )
        self.attention = Attention(plan, kind, shape.head_dim, norm)
        self.output = RowParallelLinear(shape.heads * shape.head_dim, shape.hidden, bias=shape.output_bias)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        return self.output(self.attention(self.qkv(x), index))


class DecoderLayer(Layer):
    """Attention and feed-forward, each of the normalised input and added to it."""

    def __init__(self, shape: DecoderShape, plan: AttentionPlan, kind: str, feed_forward: Layer | None = None) -> None:
        """`feed_forward` replaces the gated one, as a mixture of experts does."""
        super().__init__()
        self.attention_norm = RMSNorm(shape.hidden, shape.epsilon)
        self.attention = DecoderAttention(shape, plan, kind)
        self.feed_forward_norm = RMSNorm(shape.hidden, shape.epsilon)
        self.feed_forward = feed_forward or GatedFeedForward(
            shape.hidden, shape.inner, shape.act, bias=shape.feed_forward_bias
        )

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = x + self.attention(self.attention_norm(x), index)
        return x + self.feed_forward(self.feed_forward_norm(x))


class DecoderForPooling(PoolingModel):
    """Embedding, layers, a last norm. A family gives the shape, and the kind of each layer."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("model.",)
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "embedding.": "embed_tokens.",
        # The attention's own norm of heads, where a family has one.
        "attention.attention.query.": "self_attn.q_norm.",
        "attention.attention.key.": "self_attn.k_norm.",
        "attention.query.": "self_attn.q_proj.",
        "attention.key.": "self_attn.k_proj.",
        "attention.value.": "self_attn.v_proj.",
        "attention.output.": "self_attn.o_proj.",
        "attention_norm.": "input_layernorm.",
        "feed_forward_norm.": "post_attention_layernorm.",
        "feed_forward.gate.": "mlp.gate_proj.",
        "feed_forward.up.": "mlp.up_proj.",
        "feed_forward.down.": "mlp.down_proj.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("lm_head.", "rotary_emb.")
    rotary_base: ClassVar[float] = 10_000.0  # where the configuration is silent

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        config = spec.settings
        shape = self.shape(config)
        kinds = self.layer_kinds(config, config.integer("num_hidden_layers"))
        self.plan = AttentionPlan.of_rank(shape.heads, shape.kv_heads, self.kinds(config, shape, kinds), rotated=True)
        self.embedding = VocabParallelEmbedding(config.integer("vocab_size"), shape.hidden)
        self.layers = nn.LayerList([self.layer(config, shape, number, kind) for number, kind in enumerate(kinds)])
        self.norm = RMSNorm(shape.hidden, shape.epsilon, offset=shape.norm_offset)

    def forward(
        self,
        token_ids: paddle.Tensor,
        positions: paddle.Tensor,
        segments: paddle.Tensor,
        index: AttentionIndex,
        images: PlacedImages | None = None,
    ) -> paddle.Tensor:
        x = self.embedding(token_ids)
        if images is not None:
            x = images.embedded(x)
        for number, layer in enumerate(self.layers):
            x = layer(x, index)
            if images is not None:
                x = images.added(x, number)
        return self.norm(x)

    @classmethod
    def shape(cls, config: Settings) -> DecoderShape:
        """The family's reading of its configuration."""
        return DecoderShape.of(config)

    @classmethod
    def layer_kinds(cls, config: Settings, layers: int) -> Sequence[str]:
        """For each layer "full" or "sliding"; where the configuration lists `layer_types`, they count."""
        return config.layer_types(layers) or ["full"] * layers

    @classmethod
    def kinds(cls, config: Settings, shape: DecoderShape, used: Sequence[str]) -> Mapping[str, AttentionKind]:
        """The kinds of attention that the layers use; sliding ones see `sliding_window` tokens.

        They are causal unless `is_causal` is false; both ways, the window leaves out the token itself.
        """
        causal = config.flag("is_causal", default=True)
        rotary = rotary_of(config, shape.head_dim, theta=cls.rotary_base)
        kinds = {"full": AttentionKind(causal=causal, rotary=rotary)}
        if "sliding" in used:
            window = config.integer("sliding_window")
            kinds["sliding"] = AttentionKind(causal=causal, reach=window - 1 if causal else window, rotary=rotary)
        return {name: kind for name, kind in kinds.items() if name in used}

    def layer(self, config: Settings, shape: DecoderShape, number: int, kind: str) -> Layer:
        """The layer of that number, from 0."""
        return DecoderLayer(shape, self.plan, kind)

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return LinearHead(spec.hidden_size, spec.labels)
