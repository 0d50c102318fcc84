"""Mistral 7B (Jiang et al. 2023); reference: transformers.models.mistral.modeling_mistral."""

from collections.abc import Sequence

from pooling.models.decoder import DecoderForPooling
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


@default_pooling_type("LAST")
class MistralForPooling(DecoderForPooling):
    """Llama with a window: where `sliding_window` is set, every layer sees that many tokens."""

    @classmethod
    def layer_kinds(cls, config: Settings, layers: int) -> Sequence[str]:
        return ["sliding" if config.optional_integer("sliding_window") else "full"] * layers
