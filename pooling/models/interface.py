"""What every model family is to the engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import paddle

from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.layers.attention import AttentionIndex, AttentionPlan
from pooling.layers.layer import Layer
from pooling.models.heads import new_head
from pooling.models.images import ImageRows
from pooling.models.vision_tower import VisionTower
from pooling.packed import TokenIds
from pooling.pooler_config import PoolingType
from pooling.precision import unquantized
from pooling.vision.processors import PreparedImage


class PoolingModel(Layer):
    """A backbone, and the head that its checkpoint puts behind it.

    A family's class sets `plan` and builds its layers in `__init__`; whatever it stores in attributes of its own names
    becomes, through `checkpoint_names`, the names of tensors in checkpoints.

    Attributes:
        default_pooling_type: how its sequences are pooled where neither checkpoint nor caller says.
        checkpoint_prefixes: what checkpoints may put before the names of the backbone's tensors; the first that fits
            is taken off.
        checkpoint_names: fragments of this model's parameter names, and what checkpoints call them, applied in order.
        checkpoint_ignored: beginnings of the names of tensors that pooling does not need.
        inputs: those of the arguments of `forward` that the family reads, beside the index.
        compiled: whether the family may run as a compiled program; a mixture of experts may not.
        plan: heads and kinds of attention.
        head: from pooled rows [rows, hidden size] to scores [rows, labels]; None where hidden states are the result.
    """

    default_pooling_type: ClassVar[PoolingType]
    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("model.",)
    checkpoint_names: ClassVar[Mapping[str, str]]
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("token_ids",)
    compiled: ClassVar[bool] = True
    plan: AttentionPlan

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        with unquantized():
            self.head: Layer | None = new_head(spec, self.classification_head)

    def forward(
        self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor, index: AttentionIndex
    ) -> paddle.Tensor:
        """Packed tokens -> hidden states of the last layer, float32 [T, hidden size].

        Args:
            token_ids: int64 [T].
            positions: the place of each token in its sequence, from 0, int64 [T].
            segments: 0, or 1 for the second text of a pair, int64 [T]; only BERT looks at them.
            index: made by `attention_index` from `self.plan`.

        A model that takes images has one argument more, `images: PlacedImages | None = None`: what `image_rows` made of
        those among the packed tokens.
        """
        raise NotImplementedError

    def image_rows(self, images: Sequence[PreparedImage]) -> ImageRows:
        """What the vision tower makes of images, packed end to end in their order; of models that take images."""
        raise NotImplementedError

    @property
    def image_tower(self) -> VisionTower | None:
        """The tower that images go through; None of models that take text only."""
        return None

    def sequence(self, ids: TokenIds) -> TokenIds:
        """What the model computes for a text of these ids, int32 [n]: just these, unless a family says otherwise."""
        return ids

    def ignores(self, name: str) -> bool:
        """Whether pooling does not need a tensor of this name, given without its prefix."""
        return name.startswith(self.checkpoint_ignored)

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        """The head of this family's `*ForSequenceClassification`: rows [rows, hidden size] -> [rows, labels]."""
        raise CheckpointError(f"{spec.architecture} is not supported: its family has no classification head here.")


Model = TypeVar("Model", bound=PoolingModel)


def default_pooling_type(name: str) -> Callable[[type[Model]], type[Model]]:
    """Class decorator: pool by this type where neither the checkpoint nor the caller says otherwise.

    `pooling.architectures` reads the decorator from the source, without importing it: `millpond inspect` and the api
    know the pooling type without Paddle. So its argument is a literal string.
    """

    def decorate(model: type[Model]) -> type[Model]:
        model.default_pooling_type = PoolingType(name)
        return model

    return decorate
