"""Llama (Touvron et al. 2023; Llama 3); reference: transformers.models.llama.modeling_llama."""

from pooling.models.decoder import DecoderForPooling, DecoderShape
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


@default_pooling_type("LAST")
class LlamaForPooling(DecoderForPooling):
    """Llama; some of its derivatives have biases."""

    @classmethod
    def shape(cls, config: Settings) -> DecoderShape:
        biased = config.flag("attention_bias")
        return DecoderShape.of(config, qkv_bias=biased, output_bias=biased, feed_forward_bias=config.flag("mlp_bias"))
