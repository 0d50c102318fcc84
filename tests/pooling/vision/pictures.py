"""Image files made by hand, byte by byte, and by Pillow."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIZE = b"\xff\xc0"


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *between: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of rows with their filter bytes; further chunks come before the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG_SIGNATURE + head + b"".join(between) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(each)) + each + b"\0" * (len(each) % 2) for kind, each in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_head(width: int, height: int) -> bytes:
    """The screen of a GIF without a palette."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


def noise(width: int, height: int, colours: int = 3, seed: int = 7) -> Image.Image:
    """A picture that does not compress: RGB, or RGBA with four colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, colours), np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file of a picture, by Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
