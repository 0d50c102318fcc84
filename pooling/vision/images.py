"""Decodes images, by Pillow's readers of four formats and no others: uint8 [height, width, 3].

What a caller sees of an image is what a person sees: upright, on white where it is transparent, its first frame where
it moves. The size is checked before anything is decoded.
"""

import io
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pooling.vision.containers import Contained, Format, contained
from pooling.vision.errors import ImageError, TooManyPixelsError

MAX_PIXELS = 33_000_000
"""Of one image, unless the caller says otherwise; 8K video has as many."""

SHORTEST_SIDE = 4
"""Pixels. transformers' processors take a side of 1 or 3 for the colours, and then compute with something else."""

LONGEST_RATIO = 200
"""Of the longer side to the shorter: what Qwen's processors allow. Beyond it, an image is a line."""

_READERS: Mapping[Format, Callable[[io.BytesIO], ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "GIF": GifImageFile,
    "WebP": WebPImageFile,
}
"""Called by themselves, not through `Image.open`, which would guess among the formats of all plug-ins."""

LARGE_WEBP = 4_000_000
"""Pixels."""

_one_large_webp = threading.Lock()
"""Pillow copies the frame of a WebP while no other thread runs, 4 bytes a pixel. Two copies at once hold each other up:
the event loop beside them stood still for 0.4 s, and for 0.1 s beside one."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises for files that are not what they claim to be; it promises no one class."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself before it is decoded.

    Attributes:
        width, height: in pixels, upright.
    """

    format: Format
    width: int
    height: int


def header_of(data: bytes, most_pixels: int = MAX_PIXELS) -> ImageHeader:
    """The format and upright size of an image; no pixel is decoded.

    Raises:
        ImageError: it is no PNG, JPEG, WebP or GIF, is cut off, or of a size that is not taken.
    """
    return _header(_taken(data, most_pixels))


def verified(data: bytes, most_pixels: int = MAX_PIXELS) -> ImageHeader:
    """The header of an image after all its pixels were decoded once, of a JPEG at an eighth of its size.

    Of several threads, one decodes a large WebP at a time.

    Raises:
        ImageError: as `header_of`, and where its pixels are cut off or broken.
    """
    found = _taken(data, most_pixels)
    large_webp = found.format == "WebP" and found.width * found.height > LARGE_WEBP
    with _one_large_webp if large_webp else nullcontext():
        _loaded(found, draft=True)
    return _header(found)


def decoded(data: bytes, most_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of an image: RGB, [height, width, 3], upright.

    The first frame of a GIF or WebP; transparency laid on white; of 16 bits the higher 8; CMYK converted.

    Raises:
        ImageError: as `verified`.
    """
    found = _taken(data, most_pixels)
    image = _colours(_loaded(found))
    if found.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[found.orientation])
    return np.array(image, np.uint8)


def _taken(data: bytes, most_pixels: int) -> Contained:
    """An image of a size that is taken."""
    found = contained(data)
    width, height = found.width, found.height
    if width * height > most_pixels:
        raise TooManyPixelsError(
            f"the image has {width} x {height} = {width * height} pixels; {most_pixels} are the most"
        )
    if min(width, height) < SHORTEST_SIDE:
        raise ImageError(f"the image has {width} x {height} pixels; a side has at least {SHORTEST_SIDE}")
    if max(width, height) > LONGEST_RATIO * min(width, height):
        raise ImageError(
            f"the image has {width} x {height} pixels; a side is at most {LONGEST_RATIO} times as long as the other"
        )
    return found


def _header(found: Contained) -> ImageHeader:
    lying = found.orientation >= 5
    width, height = (found.height, found.width) if lying else (found.width, found.height)
    return ImageHeader(found.format, width, height)


def _loaded(found: Contained, draft: bool = False) -> Image.Image:
    """The pixels as they are stored.

    Args:
        draft: of a JPEG, an eighth of each side is enough: all of its bits are read for that.
    """
    try:
        image = _READERS[found.format](io.BytesIO(found.pixels))
        if image.size != (found.width, found.height):
            raise ImageError(f"the {found.format} has two sizes")
        if draft and found.format == "JPEG":
            image.draft(None, (1, 1))
        image.load()
    except ImageError:
        raise
    except _BROKEN as error:
        raise ImageError(f"the {found.format} is cut off or broken: its pixels cannot be decoded") from error
    return image


def _colours(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode that the four formats have."""
    if image.mode.startswith("I"):
        return _of_sixteen_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _of_sixteen_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits: the higher 8, as Pillow takes them of colours; the transparent grey becomes white."""
    grey = np.asarray(image).astype(np.uint16)
    high = (grey >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        high[grey == transparent] = 255
    return Image.fromarray(high).convert("RGB")
