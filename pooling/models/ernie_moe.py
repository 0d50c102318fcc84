"""ERNIE 4.5 with experts (Baidu 2025); reference: transformers.models.ernie4_5_moe.modeling_ernie4_5_moe."""

from collections.abc import Mapping
from typing import ClassVar

from pooling.layers.experts import MixtureOfExperts
from pooling.layers.layer import Layer
from pooling.models.decoder import DecoderForPooling, DecoderLayer, DecoderShape
from pooling.models.ernie import ErnieForPooling
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


@default_pooling_type("LAST")
class ErnieMoeForPooling(ErnieForPooling):
    """ERNIE 4.5 whose middle layers choose a few experts for each token, beside those that all tokens share."""

    compiled: ClassVar[bool] = False
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        **{ours: theirs for ours, theirs in DecoderForPooling.checkpoint_names.items() if "feed_forward." not in ours},
        ".gate.": ".gate_proj.",
        ".up.": ".up_proj.",
        ".down.": ".down_proj.",
        "feed_forward.router.": "mlp.gate.",
        "feed_forward.statics.": "mlp.moe_statics.",
        "feed_forward.shared.": "mlp.shared_experts.",
        "feed_forward.": "mlp.",
    }

    def layer(self, config: Settings, shape: DecoderShape, number: int, kind: str) -> Layer:
        experts = self.experts(config, shape) if has_experts(config, number) else None
        return self.decoder_layer(shape, kind, experts)

    def decoder_layer(self, shape: DecoderShape, kind: str, experts: Layer | None) -> Layer:
        """A layer with these experts, or without any."""
        return DecoderLayer(shape, self.plan, kind, experts)

    @classmethod
    def experts(cls, config: Settings, shape: DecoderShape) -> Layer:
        """The experts of one layer."""
        inner = config.integer("moe_intermediate_size")
        return MixtureOfExperts(
            shape.hidden,
            inner,
            experts=config.integer("moe_num_experts", "num_experts"),
            chosen=config.integer("moe_k", "num_experts_per_tok"),
            shared_inner=inner * int(config.number("moe_num_shared_experts", default=0)),
            act=shape.act,
            bias=shape.feed_forward_bias,
            least_sum=config.number("moe_norm_min", default=1e-12),
        )


def has_experts(config: Settings, number: int) -> bool:
    """Whether the layer of that number, from 0, has experts; where `mlp_layer_types` lists the layers, it counts."""
    layers = config.integer("num_hidden_layers")
    types = config.texts("mlp_layer_types")
    if types is not None:
        if len(types) != layers:
            raise config.refuse("mlp_layer_types", types, f"it must name each of the model's {layers} layers")
        return types[number] == "sparse"
    first = int(config.number("moe_layer_start_index", default=1))
    last = int(config.number("moe_layer_end_index", default=-1))
    interval = config.integer("moe_layer_interval", default=1)
    return first <= number <= (last if last >= 0 else layers - 1) and (number + 1) % interval == 0
