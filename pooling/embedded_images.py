"""From the images of sequences to rows among their tokens; an image that was computed lately is not computed again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.config import ModelSpec
from pooling.errors import InputError
from pooling.models.images import ImageRows, PlacedImages
from pooling.models.interface import PoolingModel
from pooling.packed import chunks_by_length
from pooling.tensors import tensor_of
from pooling.vision.kept import Kept
from pooling.vision.layout import token_axes
from pooling.vision.processors import PreparedImage

if TYPE_CHECKING:
    from pooling.engine import PoolingInput

KEPT_BYTES = 256 * 1024 * 1024
"""Of rows of images that may be asked for again."""

TOWER_PATCHES = 4_096
"""Patches in one forward of a vision tower; an image of more is alone in one."""

FEW_PATCHES = 256
"""Images of fewer go through the tower together, of whatever sizes they are."""

AXES = 3


class EmbeddedImages:
    """What the vision tower of one model makes of images.

    Attributes:
        computed: how many images went through the tower so far.
    """

    def __init__(self, spec: ModelSpec, model: PoolingModel, kept_bytes: int = KEPT_BYTES) -> None:
        self.computed = 0
        self._placeholder_id = spec.placeholder_id
        self._taken = spec.takes_images
        self._model = model
        self._kept: Kept[ImageRows] = Kept(kept_bytes)

    def check(self, position: int, given: "PoolingInput") -> None:
        """Refuses images that a model does not take, or whose tokens are not those that stand in the sequence.

        Raises:
            InputError: naming the input by its position.
        """
        if not given.images:
            return
        if not self._taken:
            raise InputError(f"Input {position} has images, and this model takes text only.")
        if self._placeholder_id is None and (len(given.ids), len(given.images)) != (1, 1):
            raise InputError(
                f"Input {position} has {len(given.ids)} tokens and {len(given.images)} images, and this model takes "
                "either a text or one image: give an image one id, and nothing beside."
            )
        wanted = sum(image.tokens for image in given.images)
        places = self._places(given)
        if len(places) != wanted:
            raise InputError(
                f"Input {position} has {len(places)} placeholders for images that have {wanted} tokens: expand each "
                "placeholder to as many as its image has."
            )

    def axes(self, inputs: Sequence["PoolingInput"]) -> NDArray[np.int64] | None:
        """Where the packed tokens of sequences lie in time, height and width, int64 [3, T]; None without images."""
        placeholder = self._placeholder_id
        if placeholder is None or not any(each.images for each in inputs):
            return None
        found = []
        for each in inputs:
            if each.images:
                found.append(token_axes(each.ids, placeholder, [image.token_grid for image in each.images]))
            else:
                found.append(np.broadcast_to(np.arange(len(each.ids)), (AXES, len(each.ids))))
        return np.concatenate(found, axis=1)

    def placed(self, inputs: Sequence["PoolingInput"]) -> PlacedImages | None:
        """The images among the packed tokens of sequences, each distinct one computed once; None without images."""
        images = [image for each in inputs for image in each.images]
        if not images:
            return None
        rows = self.rows(images)
        places, begin = [], 0
        for each in inputs:
            if each.images:
                places.append(begin + self._places(each))
            begin += len(each.ids)
        together = [paddle.concat(list(layer)) for layer in zip(*(rows[image.key] for image in images), strict=True)]
        return PlacedImages(tensor_of(np.concatenate(places)), together)

    def _places(self, given: "PoolingInput") -> NDArray[np.int64]:
        """Which tokens of a sequence with images are theirs; where no token stands for them, all."""
        if self._placeholder_id is None:
            return np.arange(len(given.ids))
        return np.flatnonzero(given.ids == self._placeholder_id)

    def rows(self, images: Sequence[PreparedImage]) -> dict[bytes, ImageRows]:
        """The rows of each distinct image, by its key."""
        found: dict[bytes, ImageRows] = {}
        missing: dict[bytes, PreparedImage] = {}
        for image in images:
            kept = self._kept.get(image.key)
            if kept is None:
                missing[image.key] = image
            else:
                found[image.key] = kept
        computed = list(missing.values())
        for chunk in _groups([len(image.patches) for image in computed]):
            taken = [computed[number] for number in chunk]
            for image, rows in zip(taken, self._through_tower(taken), strict=True):
                found[image.key] = rows
                self._kept.keep(image.key, rows, _bytes(rows))
        return found

    def _through_tower(self, images: Sequence[PreparedImage]) -> list[ImageRows]:
        with paddle.no_grad():
            layers = self._model.image_rows(images)
            if len(images) > 1:
                sizes = [image.tokens for image in images]
                parts = [paddle.split(layer, sizes) for layer in layers]
            else:
                parts = [[layer] for layer in layers]
        self.computed += len(images)
        return list(zip(*parts, strict=True))


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Images, by their numbers of patches, that go through the tower together.

    Attention pads images that are not of one size, and then adds a mask to all scores, which takes a CPU longer than
    the scores themselves. Where they are few that does not matter, and small images are quicker together.
    """
    small = [number for number, size in enumerate(sizes) if size < FEW_PATCHES]
    groups = [[small[place] for place in group] for group in chunks_by_length([sizes[n] for n in small], TOWER_PATCHES)]
    alike: dict[int, list[int]] = {}
    for number, size in enumerate(sizes):
        if size >= FEW_PATCHES:
            alike.setdefault(size, []).append(number)
    for size, numbers in alike.items():
        most = max(1, TOWER_PATCHES // size)
        groups += [numbers[begin : begin + most] for begin in range(0, len(numbers), most)]
    return groups


def _bytes(rows: ImageRows) -> int:
    return sum(int(each.size) * int(each.element_size()) for each in rows)
