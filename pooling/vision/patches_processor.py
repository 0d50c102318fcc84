"""Images of any size cut into patches, so many as their pixels allow: Qwen-VL and ERNIE-4.5-VL.

Reference, and what does the work: transformers.models.qwen2_vl.image_processing_pil_qwen2_vl, and the same file of
ernie4_5_vl_moe. An image is resized so that its sides are multiples of a token's, its pixels between two bounds and its
shape much as it was.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.vision.processors import ImageOptions, PreparedImage

SIDE, LEAST, MOST, SIZE = "image_size", "min_pixels", "max_pixels", "size"
LEAST_OF_SIZE, MOST_OF_SIZE = "shortest_edge", "longest_edge"
TAKEN = (SIDE, LEAST, MOST, SIZE)

# What of a configuration is how an image is processed, and not what it is called.
SETTINGS = (
    "do_resize", "do_rescale", "do_normalize", "rescale_factor", "resample", "image_mean", "image_std", "size",
    "patch_size", "temporal_patch_size", "merge_size", "min_pixels", "max_pixels",
)  # fmt: skip

LARGEST_SIDE = 65_536
LARGEST_AREA = LARGEST_SIDE**2


def image_processor(configuration: Mapping[str, Any], spec: ModelSpec) -> "PatchesProcessor":
    """The processor of a checkpoint.

    Raises:
        CheckpointError: its sizes are not those of the model's own configuration.
    """
    found = PatchesProcessor(configuration, ernie=spec.architecture.family.module.startswith("ernie"))
    assert spec.vision is not None
    for name, of_processor, default in (
        ("patch_size", found.patch, 14),
        ("spatial_merge_size", found.merge, 2),
    ):
        of_model = spec.vision.integer(name, default=default)
        if of_model != of_processor:
            raise CheckpointError(
                f"{spec.directory} has {name} {of_model} in config.json and {of_processor} for its image processor: "
                "use files that belong together."
            )
    return found


class PatchesProcessor:
    """The image processor of one checkpoint.

    Attributes:
        patch: pixels of a patch's side.
        merge: patches of a token's side.
    """

    places = 0

    def __init__(self, configuration: Mapping[str, Any], *, ernie: bool = False) -> None:
        # Imported here: for models of text alone it would be read in vain.
        if ernie:
            from transformers.models.ernie4_5_vl_moe import image_processing_pil_ernie4_5_vl_moe as of_ernie

            kind, self._smart_resize = cast("Any", of_ernie.Ernie4_5_VLMoeImageProcessorPil), of_ernie.smart_resize
        else:
            from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as of_qwen

            kind, self._smart_resize = cast("Any", of_qwen.Qwen2VLImageProcessorPil), of_qwen.smart_resize
        given = {name: configuration[name] for name in SETTINGS if configuration.get(name) is not None}
        if ernie:
            # Baidu's own files state other bounds, by which neither FastDeploy nor transformers goes.
            bounds = {name: given.get(SIZE, {}).get(name) for name in (LEAST_OF_SIZE, MOST_OF_SIZE)}
            given[SIZE] = dict(kind.size) | {name: bound for name, bound in bounds.items() if bound is not None}
            given = {name: value for name, value in given.items() if name not in (LEAST, MOST)}
        self._processor = kind(**given)
        self.patch = int(self._processor.patch_size)
        self.merge = int(self._processor.merge_size)

    def refusal(self, options: ImageOptions) -> str | None:
        """Why options are not taken: other keys than TAKEN, no whole numbers, or bounds that cross."""
        for name, value in options.items():
            if name not in TAKEN:
                return f"{name} is not among what this model's image processor takes: {', '.join(TAKEN)}"
            if name == SIZE:
                if not isinstance(value, Mapping) or not value or not set(value) <= {LEAST_OF_SIZE, MOST_OF_SIZE}:
                    return f"{SIZE} must be an object with {LEAST_OF_SIZE} and {MOST_OF_SIZE}, in pixels of the image"
                wrong = next((f"{SIZE}.{key}" for key, each in value.items() if not _whole(each, LARGEST_AREA)), None)
            else:
                wrong = None if _whole(value, LARGEST_SIDE if name == SIDE else LARGEST_AREA) else name
            if wrong:
                most = LARGEST_SIDE if wrong == SIDE else LARGEST_AREA
                return f"{wrong} must be a whole number from 1 to {most}"
        least, most = self._bounds(options)
        token = (self.patch * self.merge) ** 2
        if most < token:
            return f"an image would have at most {most} pixels, and one token takes {token}: allow more"
        if least > most:
            return f"an image would have at least {least} pixels and at most {most}: let the first be the lesser"
        return None

    def tokens(self, width: int, height: int, options: ImageOptions) -> int:
        """How many tokens an image of so many pixels will have."""
        rows, columns = self._token_grid(width, height, options)
        return rows * columns

    def prepared(self, key: bytes, pixels: NDArray[np.uint8], options: ImageOptions) -> PreparedImage:
        """The image's patches, [patches, 3 x times x side x side]: those of a token lie side by side."""
        least, most = self._bounds(options)
        found = self._processor.preprocess(
            [pixels], size={LEAST_OF_SIZE: least, MOST_OF_SIZE: most}, input_data_format="channels_last"
        )
        times, height, width = (int(each) for each in found["image_grid_thw"][0])
        patches = np.asarray(found["pixel_values"], dtype=np.float32)
        grid = (times, height // self.merge, width // self.merge)
        return PreparedImage(key, patches, (times, height, width), grid)

    def _token_grid(self, width: int, height: int, options: ImageOptions) -> tuple[int, int]:
        least, most = self._bounds(options)
        side = self.patch * self.merge
        resized = self._smart_resize(height, width, factor=side, min_pixels=least, max_pixels=most)
        return int(resized[0]) // side, int(resized[1]) // side

    def _bounds(self, options: ImageOptions) -> tuple[int, int]:
        """The fewest and the most pixels of an image, which options may move.

        `image_size` is the side of a square of the most pixels; a lower bound above that gives way.
        """
        size = self._processor.size
        least, most = int(size[LEAST_OF_SIZE]), int(size[MOST_OF_SIZE])
        if SIDE in options:
            most = int(options[SIDE]) ** 2
            least = min(least, most)
        stated = options.get(SIZE, {})
        least = int(options.get(LEAST, stated.get(LEAST_OF_SIZE, least)))
        most = int(options.get(MOST, stated.get(MOST_OF_SIZE, most)))
        return least, most


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
