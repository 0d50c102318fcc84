"""Gemma 3's language model and EmbeddingGemma (Google 2025); reference: transformers.models.gemma3.modeling_gemma3."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import paddle

from pooling.layers.attention import AttentionIndex, AttentionKind, AttentionPlan
from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.layer import Layer
from pooling.layers.norm import RMSNorm
from pooling.models.decoder import DecoderAttention, DecoderForPooling, DecoderShape
from pooling.models.images import PlacedImages
from pooling.models.interface import default_pooling_type
from pooling.rotary import rotary_of
from pooling.settings import Settings


class Gemma3Layer(Layer):
    """Attention and feed-forward, each between two norms and added to its input."""

    def __init__(self, shape: DecoderShape, plan: AttentionPlan, kind: str) -> None:
        super().__init__()
        self.attention_norm = self._norm(shape)
        self.attention = DecoderAttention(shape, plan, kind)
        self.attention_post_norm = self._norm(shape)
        self.feed_forward_norm = self._norm(shape)
        self.feed_forward = GatedFeedForward(shape.hidden, shape.inner, shape.act)
        self.feed_forward_post_norm = self._norm(shape)

    @staticmethod
    def _norm(shape: DecoderShape) -> RMSNorm:
        return RMSNorm(shape.hidden, shape.epsilon, offset=shape.norm_offset)

    def forward(self, x: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        x = x + self.attention_post_norm(self.attention(self.attention_norm(x), index))
        return x + self.feed_forward_post_norm(self.feed_forward(self.feed_forward_norm(x)))


@default_pooling_type("LAST")
class Gemma3ForPooling(DecoderForPooling):
    """Most layers see a window only, with a rotary base of their own; in EmbeddingGemma tokens see both ways."""

    checkpoint_names: ClassVar[Mapping[str, str]] = DecoderForPooling.checkpoint_names | {  # type: ignore[operator]
        "attention_post_norm.": "post_attention_layernorm.",
        "feed_forward_norm.": "pre_feedforward_layernorm.",
        "feed_forward_post_norm.": "post_feedforward_layernorm.",
    }

    def forward(
        self,
        token_ids: paddle.Tensor,
        positions: paddle.Tensor,
        segments: paddle.Tensor,
        index: AttentionIndex,
        images: PlacedImages | None = None,
    ) -> paddle.Tensor:
        assert images is None
        x = self.embedding(token_ids) * self.embedding.width**0.5
        for layer in self.layers:
            x = layer(x, index)
        return self.norm(x)

    @classmethod
    def shape(cls, config: Settings) -> DecoderShape:
        biased = config.flag("attention_bias")
        capping = config.get("attn_logit_softcapping")
        if capping is not None:
            raise config.refuse("attn_logit_softcapping", capping, "use a Gemma 3 without it")
        return DecoderShape.of(
            config,
            qkv_bias=biased,
            output_bias=biased,
            head_norm=True,
            norm_offset=1.0,
            act="gelu_pytorch_tanh",
            scale=config.number("query_pre_attn_scalar", default=256.0) ** -0.5,
        )

    @classmethod
    def layer_kinds(cls, config: Settings, layers: int) -> Sequence[str]:
        types = config.layer_types(layers)
        if types is not None:
            return types
        pattern = config.integer("sliding_window_pattern", default=6)
        return ["sliding" if (number + 1) % pattern else "full" for number in range(layers)]

    @classmethod
    def kinds(cls, config: Settings, shape: DecoderShape, used: Sequence[str]) -> Mapping[str, AttentionKind]:
        """Both ways, half of `sliding_window` is seen each way; the reference halves it in the same case."""
        causal = not config.flag("use_bidirectional_attention")
        window = config.integer("sliding_window", default=4096)
        whole = rotary_of(config, shape.head_dim, layer_type="full_attention", theta=1_000_000.0)
        kinds = {
            "full": AttentionKind(causal=causal, rotary=whole),
            "sliding": AttentionKind(
                causal=causal,
                reach=window - 1 if causal else window // 2,
                rotary=rotary_of(_local_settings(config), shape.head_dim, layer_type="sliding_attention"),
            ),
        }
        return {name: kind for name, kind in kinds.items() if name in used}

    def layer(self, config: Settings, shape: DecoderShape, number: int, kind: str) -> Layer:
        return Gemma3Layer(shape, self.plan, kind)


def _local_settings(config: Settings) -> Settings:
    """What the rotary embedding of sliding layers is read from: in the old form of config.json one number."""
    if config.section("rope_parameters") is not None:
        return config
    base = config.number("rope_local_base_freq", default=10_000.0)
    return Settings({"rope_theta": base}, config.path)
