"""Qwen2 and Qwen2.5 (Yang et al. 2024); reference: transformers.models.qwen2.modeling_qwen2."""

from collections.abc import Sequence

from pooling.models.decoder import DecoderForPooling, DecoderShape
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


def qwen_layer_kinds(config: Settings, layers: int) -> Sequence[str]:
    """With `use_sliding_window`, the layers from `max_window_layers` on slide, unless `layer_types` lists others."""
    types = config.layer_types(layers)
    if types is not None:
        return types
    first = config.integer("max_window_layers", default=28) if config.flag("use_sliding_window") else layers
    return ["sliding" if number >= first else "full" for number in range(layers)]


@default_pooling_type("LAST")
class Qwen2ForPooling(DecoderForPooling):
    """Llama with biases on queries, keys and values."""

    @classmethod
    def shape(cls, config: Settings) -> DecoderShape:
        return DecoderShape.of(config, qkv_bias=True)

    @classmethod
    def layer_kinds(cls, config: Settings, layers: int) -> Sequence[str]:
        return qwen_layer_kinds(config, layers)
