"""Image processors: from pixels to what a vision tower takes, and how many tokens an image will have.

The work is done by transformers' own processors without torch; each family has a file that wraps one. The api asks for
the number of tokens of an image of a size; a worker makes the patches of its pixels.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pooling.checkpoint import read_json
from pooling.config import PREPROCESSOR_FILE, PROCESSOR_FILE, ModelSpec
from pooling.errors import CheckpointError

ImageOptions = Mapping[str, Any]
"""What a request says of how its images are processed: `mm_processor_kwargs`."""


@dataclass(frozen=True)
class PreparedImage:
    """An image as a vision tower takes it.

    Attributes:
        key: identifies the pixels and how they were processed: images of equal keys have equal embeddings.
        patches: float32, [patches, numbers of a patch] in the tower's order.
        grid: how many patches it has in time, height and width.
        token_grid: how many tokens, likewise; patches are merged into them.
    """

    key: bytes
    patches: NDArray[np.float32]
    grid: tuple[int, int, int]
    token_grid: tuple[int, int, int]

    @property
    def tokens(self) -> int:
        """How many places of a sequence it fills."""
        return self.token_grid[0] * self.token_grid[1] * self.token_grid[2]


class ImageProcessor(Protocol):
    """What one family does with pixels.

    Attributes:
        places: how many a tower computes for an image that is a sequence of its own; 0 where its tokens stand among
            those of a text.
    """

    places: int

    def refusal(self, options: ImageOptions) -> str | None:
        """Why these options are not taken, in a sentence that names the key and what it may be; None if they are."""

    def tokens(self, width: int, height: int, options: ImageOptions) -> int:
        """How many tokens an image of so many pixels will have; options were not refused."""

    def prepared(self, key: bytes, pixels: NDArray[np.uint8], options: ImageOptions) -> PreparedImage:
        """The image of pixels [height, width, 3], under that key; options were not refused."""


def read_image_processor(spec: ModelSpec) -> ImageProcessor | None:
    """The processor of a checkpoint; None for a model that takes no images.

    Raises:
        CheckpointError: its configuration is missing or not supported.
    """
    kind = spec.architecture.family.images
    if kind is None or spec.vision is None:
        return None
    # Its processors work without torch, and it would say at each start that torch is not there.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    module = importlib.import_module(f"pooling.vision.{kind}_processor")
    found: ImageProcessor = module.image_processor(_configuration(spec), spec)
    return found


def image_key(digest: bytes, options: ImageOptions) -> bytes:
    """The key of an image with this SHA-256 that is processed with these options."""
    return hashlib.sha256(digest + canonical(options)).digest()


def canonical(options: ImageOptions) -> bytes:
    """Options as bytes, the same for equal ones; b"" for none."""
    return json.dumps(options, sort_keys=True, separators=(",", ":")).encode() if options else b""


def _configuration(spec: ModelSpec) -> Mapping[str, Any]:
    """The image processor's own settings, from either of the files in which transformers writes them."""
    own, shared = spec.directory / PREPROCESSOR_FILE, spec.directory / PROCESSOR_FILE
    if own.exists():
        return read_json(own)
    section = read_json(shared).get("image_processor") if shared.exists() else None
    if not isinstance(section, dict):
        raise CheckpointError(
            f"{spec.directory} has no {PREPROCESSOR_FILE}, which says how images become patches: download it again."
        )
    return section
