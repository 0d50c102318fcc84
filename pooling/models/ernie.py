"""ERNIE 4.5 without experts (Baidu 2025); reference: transformers.models.ernie4_5.modeling_ernie4_5."""

from typing import ClassVar

from pooling.models.decoder import DecoderForPooling, DecoderShape
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


@default_pooling_type("LAST")
class ErnieForPooling(DecoderForPooling):
    """Llama whose rotary embedding turns neighbouring dimensions together; all linear layers have biases, or none."""

    rotary_base: ClassVar[float] = 500_000.0

    @classmethod
    def shape(cls, config: Settings) -> DecoderShape:
        biased = config.flag("use_bias")
        return DecoderShape.of(
            config, qkv_bias=biased, output_bias=biased, feed_forward_bias=biased, interleaved=True, epsilon=1e-5
        )
