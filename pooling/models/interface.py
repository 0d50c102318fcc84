"""What every model family is to the engine."""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import paddle

from pooling.config import ModelSpec, PoolingType
from pooling.layers.attention import AttentionIndex
from pooling.layers.layer import Layer


class PoolingModel(Layer):
    """A backbone: from packed token ids to hidden states.

    Attributes:
        default_pooling_type: how its sequences are pooled where neither checkpoint nor caller says.
        checkpoint_prefix: what a checkpoint with a head puts before the names of the backbone's tensors.
        checkpoint_names: fragments of this model's parameter names, and what checkpoints call them.
        checkpoint_ignored: beginnings of the names of tensors that pooling does not need.
        heads: the number of attention heads.
    """

    default_pooling_type: ClassVar[PoolingType]
    checkpoint_prefix: ClassVar[str]
    checkpoint_names: ClassVar[Mapping[str, str]]
    checkpoint_ignored: ClassVar[tuple[str, ...]]
    heads: int

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    def forward(self, token_ids: paddle.Tensor, positions: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        """token_ids and positions, int64 [T] -> hidden states of the last layer, float32 [T, hidden size]."""
        raise NotImplementedError


Model = TypeVar("Model", bound=PoolingModel)


def default_pooling_type(name: str) -> Callable[[type[Model]], type[Model]]:
    """Class decorator: pool by this type where neither the checkpoint nor the caller says otherwise."""

    def decorate(model: type[Model]) -> type[Model]:
        model.default_pooling_type = PoolingType(name)
        return model

    return decorate
