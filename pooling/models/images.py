"""How images get among the tokens of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import paddle

ImageRows = Sequence[paddle.Tensor]
"""What a vision tower makes of an image: rows [tokens, hidden] that stand in the places of its placeholders, and, for
models that look at an image more than once (DeepStack), rows that are added behind each of the first layers."""


@dataclass(frozen=True)
class PlacedImages:
    """The images of packed sequences.

    Attributes:
        places: which of the packed tokens are images', int64 [N].
        rows: as of `ImageRows`, of all images end to end: [N, hidden] each.
    """

    places: paddle.Tensor
    rows: ImageRows

    def embedded(self, x: paddle.Tensor) -> paddle.Tensor:
        """x [T, hidden] with the images' rows in their places."""
        return paddle.scatter(x, self.places, self.rows[0].astype(x.dtype), overwrite=True)

    def added(self, x: paddle.Tensor, layer: int) -> paddle.Tensor:
        """x [T, hidden] as it leaves a layer, numbered from 0, with what the images add there."""
        if layer + 1 >= len(self.rows):
            return x
        here = paddle.gather(x, self.places) + self.rows[layer + 1].astype(x.dtype)
        return paddle.scatter(x, self.places, here, overwrite=True)
