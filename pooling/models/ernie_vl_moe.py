"""ERNIE 4.5 VL (Baidu 2025); reference: transformers.models.ernie4_5_vl_moe.modeling_ernie4_5_vl_moe.

Each layer has experts and a router for text and others for images, and experts that all tokens share. To the images
belong the tokens before and after each, which texts may write too. The rotary embedding knows time, height and width:
rows and columns of images take turns at the quick frequencies, time has the slow ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import ClassVar

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.config import ModelSpec
from pooling.layers.attention import AttentionIndex, AttentionKind
from pooling.layers.experts import ExpertsByModality
from pooling.layers.layer import Layer
from pooling.models.decoder import DecoderLayer, DecoderShape
from pooling.models.ernie_moe import ErnieMoeForPooling
from pooling.models.ernie_vision import ErnieVisionTower, Resampler, VisionShape
from pooling.models.images import ImageRows, PlacedImages
from pooling.models.interface import default_pooling_type
from pooling.models.vision_tower import VisionTower
from pooling.settings import Settings
from pooling.vision.processors import PreparedImage

# What Baidu's own configurations state as two numbers, one for text and one for images, and what becomes of them.
ONE_OF_TWO: Mapping[str, Callable[[Sequence[int]], int]] = {
    "moe_num_experts": lambda numbers: numbers[0],
    "moe_layer_start_index": min,
    "moe_layer_end_index": max,
}

# Which tokens go to the experts for images, beside the placeholder, where config.json is silent (as it is in Baidu's).
MARKS: Mapping[str, int] = {
    "image_start_token_id": 101_304,
    "image_end_token_id": 101_305,
    "video_start_token_id": 101_306,
    "video_end_token_id": 101_307,
    "video_token_id": 103_367,
}

TIME, HEIGHT, WIDTH = range(3)

# The frequencies that belong to time, where the configuration is silent.
FREQUENCIES_OF_TIME = 20


class ErnieVLLayer(DecoderLayer):
    """A decoder's layer, whose experts, if it has any, know which tokens are images'."""

    def forward(self, x: paddle.Tensor, index: AttentionIndex, of_images: paddle.Tensor | None = None) -> paddle.Tensor:
        x = x + self.attention(self.attention_norm(x), index)
        normalised = self.feed_forward_norm(x)
        if isinstance(self.feed_forward, ExpertsByModality):
            return x + self.feed_forward.routed(normalised, of_images)
        return x + self.feed_forward(normalised)


@default_pooling_type("LAST")
class ErnieVLMoeForPooling(ErnieMoeForPooling):
    """ERNIE 4.5 with experts for text and for images, behind a vision tower and its resampler."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("model.", "ernie.")  # FastDeploy writes the second
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        **ErnieMoeForPooling.checkpoint_names,
        "mlp.image_router.weight": "mlp.gate.weight_1",
    }

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        vision = spec.vision
        if vision is None:
            raise spec.whole.refuse("vision_config", None, "use the config.json that belongs to the model")
        shape = VisionShape.of(vision, spec.whole)
        self.vision_model = ErnieVisionTower(shape)
        self.resampler_model = Resampler(shape, spec.hidden_size, self.shape(spec.settings).epsilon)
        assert spec.placeholder_id is not None
        marks = {spec.whole.integer(name, default=known) for name, known in MARKS.items()}
        self.ids_of_images = sorted({spec.placeholder_id, *marks})

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
        of_images = self._of_images(token_ids)
        for layer in self.layers:
            x = layer(x, index, of_images)
        return self.norm(x)

    @property
    def image_tower(self) -> VisionTower:
        return self.vision_model

    def image_rows(self, images: Sequence[PreparedImage]) -> ImageRows:
        return [self.resampler_model(self.vision_model(images))]

    def _of_images(self, token_ids: paddle.Tensor) -> paddle.Tensor | None:
        """1 for the tokens that go to the experts for images, else 0, int64 [T, 1]; None where none does."""
        found = reduce(paddle.logical_or, [token_ids == token for token in self.ids_of_images])
        return found.astype("int64").unsqueeze(-1) if bool(found.any()) else None

    @classmethod
    def kinds(cls, config: Settings, shape: DecoderShape, used: Sequence[str]) -> Mapping[str, AttentionKind]:
        axes = rotary_axes(config, shape.head_dim)
        found = {}
        for name, kind in super().kinds(config, shape, used).items():
            assert kind.rotary is not None
            found[name] = replace(kind, rotary=replace(kind.rotary, axis_of=axes))
        return found

    def layer(self, config: Settings, shape: DecoderShape, number: int, kind: str) -> Layer:
        return super().layer(_single_numbers(config), shape, number, kind)

    def decoder_layer(self, shape: DecoderShape, kind: str, experts: Layer | None) -> Layer:
        return ErnieVLLayer(shape, self.plan, kind, experts)

    @classmethod
    def experts(cls, config: Settings, shape: DecoderShape) -> Layer:
        inner = _two(config, "moe_intermediate_size")
        return ExpertsByModality(
            shape.hidden,
            inner,
            experts=config.integer("moe_num_experts", "num_experts"),
            chosen=config.integer("moe_k", "num_experts_per_tok", default=6),
            shared_inner=inner[0] * int(config.number("moe_num_shared_experts", default=0)),
            act=shape.act,
            bias=shape.feed_forward_bias,
            least_sum=config.number("moe_norm_min", default=1e-12),
        )


def rotary_axes(config: Settings, head_dim: int) -> NDArray[np.int64]:
    """Which axis turns each frequency, int64 [head_dim / 2]: height and width in turns, then time.

    Transformers states three numbers of frequencies, for height, width and time, Baidu only the last.
    """
    half = head_dim // 2
    rotary = config.section("rope_parameters") or config.section("rope_scaling")
    stated = rotary.get("mrope_section") if rotary else None
    time = config.integer("freq_allocation", default=min(FREQUENCIES_OF_TIME, half))
    if stated is not None:
        sections = [each for each in stated if isinstance(each, int)] if isinstance(stated, list) else []
        if len(sections) != 3 or sum(sections) != half or sections[0] != sections[1]:
            raise config.refuse(
                "mrope_section", stated, f"it must be twice the same number and a third, together {half}"
            )
        time = sections[2]
    if time > half or (half - time) % 2:
        raise config.refuse("freq_allocation", time, f"height and width must share equally what it leaves of {half}")
    return np.concatenate([np.tile([HEIGHT, WIDTH], (half - time) // 2), np.full(time, TIME)]).astype(np.int64)


def _single_numbers(config: Settings) -> Settings:
    """The configuration with one number where Baidu's own has two and one of them counts for both.

    Layers have experts from the first to the last that has them for text or images, as transformers converts it.
    """
    experts = config.get("moe_num_experts")
    if isinstance(experts, list) and len(set(map(str, experts))) > 1:
        raise config.refuse("moe_num_experts", experts, "there must be as many experts for images as for text")
    values = {name: config.get(name) for name in config}
    for name, one_of in ONE_OF_TWO.items():
        numbers = config.get(name)
        if isinstance(numbers, list) and numbers and all(isinstance(number, int) for number in numbers):
            values[name] = one_of(numbers)
    return Settings(values, config.path)


def _two(config: Settings, name: str) -> tuple[int, int]:
    """The number for text and the one for images; they are the same where only one is stated."""
    stated = config.get(name)
    if isinstance(stated, list) and len(stated) == 2 and all(isinstance(each, int) and each > 0 for each in stated):
        return stated[0], stated[1]
    one = config.integer(name)
    return one, one
