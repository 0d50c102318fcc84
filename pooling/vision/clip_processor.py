"""Images brought to one size and cut into patches: CLIP and SigLIP.

Reference, and what does the work: transformers.models.clip.image_processing_pil_clip, and the same file of siglip. CLIP
resizes the shorter side and takes the middle; SigLIP resizes both sides.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.vision.processors import ImageOptions, PreparedImage

# What of a configuration is how an image is processed, and not what it is called.
SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip

CLIP, SIGLIP = "CLIP", "Siglip"
ENDINGS = ("Fast", "Pil", "ImageProcessor", "FeatureExtractor")

# An image so many times as long as it is wide is cut to that before it is resized: of a line of pixels, whose middle
# alone is taken, a thousand times as many would be made.
MOST_ELONGATED = 16


def image_processor(configuration: Mapping[str, Any], spec: ModelSpec) -> "FixedSizeProcessor":
    """The processor of a checkpoint.

    Raises:
        CheckpointError: it is of another kind, or what it makes is not of the size of the model's own configuration.
    """
    assert spec.vision is not None
    side = spec.vision.integer("image_size")
    stated = configuration.get("image_processor_type") or configuration.get("feature_extractor_type")
    kind = SIGLIP if spec.architecture.family.module == "siglip" else CLIP
    if stated is not None:
        kind = str(stated)
        for ending in ENDINGS:
            kind = kind.removesuffix(ending)
    if kind not in (CLIP, SIGLIP):
        raise CheckpointError(
            f"{spec.directory} has the image processor {stated!r}, which is not supported: use a model with a "
            "CLIPImageProcessor or a SiglipImageProcessor."
        )
    found = FixedSizeProcessor(configuration, kind, spec.vision.integer("patch_size"))
    if found.size != (side, side):
        made = "of no fixed size" if found.size is None else "of {} x {} pixels".format(*found.size)
        raise CheckpointError(
            f"{spec.directory} has image_size {side} in config.json and an image processor that makes images {made}: "
            "use files that belong together."
        )
    return found


class FixedSizeProcessor:
    """The image processor of one checkpoint.

    Attributes:
        patch: pixels of a patch's side.
        size: height and width of what it makes; None where they depend on the image.
        places: the patches of an image.
    """

    def __init__(self, configuration: Mapping[str, Any], kind: str, patch: int) -> None:
        # Imported here: for models of text alone it would be read in vain.
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        processor: Any = SiglipImageProcessorPil if kind == SIGLIP else CLIPImageProcessorPil
        self._processor = processor(
            **{name: configuration[name] for name in SETTINGS if configuration.get(name) is not None}
        )
        self.patch = patch
        self.size = self._fixed_size()
        height, width = self.size or (0, 0)
        self.places = (height // patch) * (width // patch)

    def refusal(self, options: ImageOptions) -> str | None:
        """Why options are not taken: there is nothing to choose."""
        if not options:
            return None
        height, width = self.size or (0, 0)
        return f"{min(options)} is not taken: this model's images are all made {height} x {width} pixels large"

    def tokens(self, width: int, height: int, options: ImageOptions) -> int:
        """One: an image is a sequence of its own, and has one embedding."""
        return 1

    def prepared(self, key: bytes, pixels: NDArray[np.uint8], options: ImageOptions) -> PreparedImage:
        """The image's patches, [patches, 3 x side x side], row by row."""
        found = self._processor.preprocess([self._shortened(pixels)], input_data_format="channels_last")
        image = np.asarray(found["pixel_values"][0], dtype=np.float32)
        rows, columns = (size // self.patch for size in image.shape[1:])
        # What is left over at the right and lower edge is not seen, as by a convolution without padding.
        whole = image[:, : rows * self.patch, : columns * self.patch]
        blocks = whole.reshape(3, rows, self.patch, columns, self.patch).transpose(1, 3, 0, 2, 4)
        patches = np.ascontiguousarray(blocks.reshape(rows * columns, -1))
        return PreparedImage(key, patches, (1, rows, columns), (1, 1, 1))

    def _fixed_size(self) -> tuple[int, int] | None:
        processor = self._processor
        size = processor.crop_size if processor.do_center_crop else processor.size if processor.do_resize else None
        return (int(size.height), int(size.width)) if size is not None and size.height and size.width else None

    def _shortened(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The middle of an image of which only the middle is taken, where it is far longer than wide, or wider."""
        if not self._processor.do_center_crop:
            return pixels
        height, width = pixels.shape[:2]
        most = MOST_ELONGATED * min(height, width)
        return pixels[_middle(height, most), _middle(width, most)]


def _middle(length: int, most: int) -> slice:
    """The middle `most` places of a side, or one more, so that as much is cut off before as behind."""
    cut = max(0, length - most) // 2
    return slice(cut, length - cut)
