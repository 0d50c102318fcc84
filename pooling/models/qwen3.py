"""Qwen3 (Yang et al. 2025) and its embedding models; reference: transformers.models.qwen3.modeling_qwen3."""

from collections.abc import Sequence

from pooling.models.decoder import DecoderForPooling, DecoderShape
from pooling.models.interface import default_pooling_type
from pooling.models.qwen2 import qwen_layer_kinds
from pooling.settings import Settings


@default_pooling_type("LAST")
class Qwen3ForPooling(DecoderForPooling):
    """Llama with a norm on every query and key head."""

    @classmethod
    def shape(cls, config: Settings) -> DecoderShape:
        biased = config.flag("attention_bias")
        return DecoderShape.of(config, qkv_bias=biased, output_bias=biased, head_norm=True)

    @classmethod
    def layer_kinds(cls, config: Settings, layers: int) -> Sequence[str]:
        return qwen_layer_kinds(config, layers)
