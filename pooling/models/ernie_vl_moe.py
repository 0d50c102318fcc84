"""ERNIE 4.5 VL (Baidu 2025) on text alone; reference: transformers.models.ernie4_5_vl_moe.modeling_ernie4_5_vl_moe.

A token of text has the same place on all three axes of the rotary embedding, which then is that of ERNIE 4.5: the
order in which the axes share the frequencies is undone before they are used. Each layer has experts and a router for
text, and others for images, which are not loaded; nor are the vision model and the resampler.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from pooling.config import ModelSpec
from pooling.layers.experts import MixtureOfExperts, ScoreCorrection
from pooling.layers.layer import Layer, Stored
from pooling.layers.stored_either_way import LinearStoredEitherWay
from pooling.models.decoder import DecoderShape
from pooling.models.ernie_moe import ErnieMoeForPooling
from pooling.models.interface import default_pooling_type
from pooling.precision import unquantized, write
from pooling.settings import Settings

# What Baidu's own configurations state as two numbers, and which of them counts on text.
ONE_OF_TWO: Mapping[str, Callable[[Sequence[int]], int]] = {
    "moe_num_experts": lambda numbers: numbers[0],
    "moe_intermediate_size": lambda numbers: numbers[0],
    "moe_layer_start_index": min,
    "moe_layer_end_index": max,
}

OF_EXPERT = re.compile(r"layers\.\d+\.mlp\.experts\.(\d+)\.")


class TextScoreCorrection(ScoreCorrection):
    """The first row of a stored correction, which has one row for text and one for images."""

    def accepts(self, parameter: str, shape: Sequence[int], shard: str | None = None) -> bool:
        return tuple(shape) == (2, self.e_score_correction_bias.shape[1])

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        write(self.e_score_correction_bias, (slice(0, 1),), stored.read(slice(0, 1)))


@default_pooling_type("LAST")
class ErnieVLMoeForPooling(ErnieMoeForPooling):
    """ERNIE 4.5 with experts, among whose tensors lie those for images."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("model.", "ernie.")  # FastDeploy writes the second
    checkpoint_ignored: ClassVar[tuple[str, ...]] = (
        *ErnieMoeForPooling.checkpoint_ignored,
        "vision_model.",
        "resampler_model.",
    )

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.text_experts, self.all_experts = _numbers_of_experts(spec.settings)

    def ignores(self, name: str) -> bool:
        """Experts are numbered through, those for text first; the router for images has a name of its own."""
        of_expert = OF_EXPERT.match(name)
        if of_expert:
            return self.text_experts <= int(of_expert[1]) < self.all_experts
        return name.endswith(".mlp.gate.weight_1") or super().ignores(name)

    def layer(self, config: Settings, shape: DecoderShape, number: int, kind: str) -> Layer:
        return super().layer(_for_text(config), shape, number, kind)

    @classmethod
    def experts(cls, config: Settings, shape: DecoderShape) -> MixtureOfExperts:
        """The experts for text; their router is stored as hidden x experts."""
        mixture = super().experts(config, shape)
        with unquantized():
            mixture.router = LinearStoredEitherWay(shape.hidden, len(mixture.experts), bias=False)
        mixture.statics = TextScoreCorrection(len(mixture.experts))
        return mixture


def _for_text(config: Settings) -> Settings:
    """The configuration with one number where Baidu's own has two, the first for text.

    Layers have experts from the first to the last that has them for text or images, as transformers converts it.
    """
    values = {name: config.get(name) for name in config}
    for name, one_of in ONE_OF_TWO.items():
        numbers = config.get(name)
        if isinstance(numbers, list) and numbers and all(isinstance(number, int) for number in numbers):
            values[name] = one_of(numbers)
    return Settings(values, config.path)


def _numbers_of_experts(config: Settings) -> tuple[int, int]:
    """How many experts a layer has for text, and with those for images, which are as many unless they are stated."""
    text = _for_text(config).integer("moe_num_experts", "num_experts")
    stated = config.get("moe_num_experts", "num_experts")
    return text, sum(stated) if isinstance(stated, list) else 2 * text
