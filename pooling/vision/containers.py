"""The four containers that are read: PNG, JPEG, GIF and WebP, told by their first bytes.

An image is read here before any decoder sees it: its size, so that a bomb is refused for what it claims; its
orientation; and the parts that make the pixels of its first frame. Only those are handed on. Text, colour profiles,
thumbnails and whatever else a file may hold never reach a decoder, and what follows its end is left alone.

Formats: PNG (third edition) 5 and 11; ITU T.81 annex B and JFIF; GIF89a; RFC 9649 for WebP; Exif 2.32, 4.6.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from pooling.vision.errors import ImageError

Format = Literal["PNG", "JPEG", "GIF", "WebP"]

MOST_PARTS = 100_000
"""Chunks, segments or blocks of one file: five times those of 20 MiB in chunks of 1 KiB. Each costs a microsecond."""

MOST_SCANS = 100
"""Of a progressive JPEG. Encoders make about ten; each may be some bytes long and goes through all of the picture."""

ORIENTATION = 0x0112

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))

_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PIXELS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE}
"""Frames, Huffman and arithmetic tables, quantisation, restarts; JFIF and Adobe say which colours they are."""

_TRUNCATED = "the image is cut off"


@dataclass(frozen=True, slots=True)
class Contained:
    """An image as its container describes it.

    Attributes:
        width, height: of the first frame's canvas, in pixels as they are stored.
        orientation: 1 to 8 as Exif numbers them; 1 where nothing says otherwise.
        pixels: a file of the same format with the parts that make the first frame, and no others.
    """

    format: Format
    width: int
    height: int
    orientation: int
    pixels: bytes


def contained(data: bytes) -> Contained:
    """What a file holds, by its content.

    Raises:
        ImageError: it is none of the four formats, is cut off before its pixels, or is not built as its format says.
    """
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _gif(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError) as error:
        raise ImageError(_TRUNCATED) from error
    raise ImageError(f"{_named(data)}; PNG, JPEG, WebP and GIF are taken, told by their content")


def _named(data: bytes) -> str:
    """A format that is not taken, by name where people often try it."""
    if not data:
        return "the image is empty"
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefixes, name in (
        ((b"<svg", b"<?xml"), "an SVG or another XML document"),
        ((b"<!doctype", b"<html"), "an HTML page"),
        ((b"%pdf",), "a PDF"),
        ((b"ii*\0", b"mm\0*", b"ii+\0", b"mm\0+"), "a TIFF"),
        ((b"bm",), "a BMP"),
        ((b"\0\0\x01\0",), "an icon"),
    ):
        if start.startswith(prefixes):
            return f"this is {name}"
    if data[4:8] == b"ftyp":
        return "this is an AVIF, a HEIC or a video"
    return "this is no image"


def _png(data: bytes) -> Contained:
    width, height, depth, colour, orientation = 0, 0, 8, 0, 1
    parts = [_PNG]
    at = len(_PNG)
    for _ in range(MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ImageError(_TRUNCATED)
        if (kind == b"IHDR") != (at == len(_PNG)):
            raise ImageError("the PNG does not begin with its one header")
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, at + 8)
        elif kind == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
        if kind == b"tRNS" and (colour, depth) in ((0, 1), (0, 2), (0, 4), (2, 16)):
            parts.append(_transparent(data[at + 8 : at + 8 + length], depth))
        elif kind in _PNG_PIXELS:
            parts.append(data[at:end])
        if kind == b"IEND":
            return Contained("PNG", width, height, orientation, b"".join(parts))
        at = end
    raise ImageError(_too_many("chunks"))


def _transparent(colour: bytes, depth: int) -> bytes:
    """A chunk with a PNG's transparent colour in 8 bits, as which Pillow compares it with pixels of other depths."""
    numbers = struct.unpack(f">{len(colour) // 2}H", colour)
    eight = [each >> 8 if depth == 16 else (each & (1 << depth) - 1) * 255 // ((1 << depth) - 1) for each in numbers]
    body = b"tRNS" + struct.pack(f">{len(eight)}H", *eight)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg(data: bytes) -> Contained:
    size: tuple[int, int] | None = None
    orientation = 0
    parts = [b"\xff\xd8"]
    at = 2
    for _ in range(MOST_PARTS):
        if data[at] != 0xFF:
            raise ImageError("the JPEG has something else where a segment begins")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _TEM or marker in _RESTARTS:
            at += 2
            continue
        if marker in (_SOI, _EOI):
            raise ImageError("the JPEG ends before its pixels")
        if marker == _SOS:
            return _jpeg_pixels(data, at, size, orientation or 1, parts)
        end = at + 2 + int(*struct.unpack_from(">H", data, at + 2))
        if end > len(data):
            raise ImageError(_TRUNCATED)
        if end < at + 4:
            raise ImageError("the JPEG has a segment that is shorter than its own head")
        if marker in _FRAMES:
            if size is not None:
                raise ImageError("the JPEG has two sizes")
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        elif marker == 0xE1 and not orientation and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : end])
        if marker in _JPEG_PIXELS:
            parts.append(data[at:end])
        at = end
    raise ImageError(_too_many("segments"))


def _jpeg_pixels(data: bytes, at: int, size: tuple[int, int] | None, orientation: int, parts: list[bytes]) -> Contained:
    if size is None:
        raise ImageError("the JPEG has pixels and no size")
    if data.count(b"\xff\xda", at) > MOST_SCANS:
        raise ImageError(f"the JPEG goes through its picture more than {MOST_SCANS} times")
    return Contained("JPEG", *size, orientation, b"".join([*parts, data[at:]]))


def _gif(data: bytes) -> Contained:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette(flags)
    parts = [data[:at]]
    control = b""
    for _ in range(MOST_PARTS):
        kind = data[at]
        if kind == 0x2C:
            left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
            # A frame may reach beyond the screen, which grows then.
            size = max(width, left + across), max(height, top + down)
            return Contained("GIF", *size, 1, b"".join([*parts, control, data[at:]]))
        if kind != 0x21:
            raise ImageError("the GIF has no frame")
        begins, at = at, at + 2
        at = _after_blocks(data, at)
        if data[begins + 1] == 0xF9:
            control = data[begins:at]
    raise ImageError(_too_many("blocks"))


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Where a GIF's chain of blocks ends."""
    for _ in range(MOST_PARTS):
        length = data[at]
        at += length + 1
        if not length:
            return at
    raise ImageError(_too_many("blocks"))


def _webp(data: bytes) -> Contained:
    end = 8 + int(*struct.unpack_from("<I", data, 4))
    if end > len(data):
        raise ImageError(_TRUNCATED)
    size: tuple[int, int] | None = None
    orientation = 1
    at = 12
    for _ in range(MOST_PARTS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise ImageError(_TRUNCATED)
        if size is None:
            size = _webp_size(kind, data, at + 8)
        elif kind == b"EXIF":
            orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    else:
        raise ImageError(_too_many("chunks"))
    if size is None:
        raise ImageError(_TRUNCATED)
    return Contained("WebP", *size, orientation, data[:end])


def _webp_size(kind: bytes, data: bytes, at: int) -> tuple[int, int]:
    """The canvas, by the first chunk: extended, lossy or lossless."""
    if kind == b"VP8X":
        low_and_high = struct.unpack_from("<HBHB", data, at + 4)
        return low_and_high[0] + (low_and_high[1] << 16) + 1, low_and_high[2] + (low_and_high[3] << 16) + 1
    if kind == b"VP8 " and data[at + 3 : at + 6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[at] == 0x2F:
        bits = int(*struct.unpack_from("<I", data, at + 1))
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise ImageError("the WebP does not begin with its picture's head")


def _orientation(exif: bytes) -> int:
    """The orientation that an Exif block states; 1 where it states none that there is: no picture is lost over it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * number)
            if tag == ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:  # the block ends before
        return 1
    return 1


def _too_many(parts: str) -> str:
    return f"the image consists of more than {MOST_PARTS} {parts}"
