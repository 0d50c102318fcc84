"""An image is decoded as a person sees it: upright, on white, in eight bits of red, green and blue, its first frame."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pooling.vision.containers import contained
from pooling.vision.errors import ImageError, TooManyPixelsError
from pooling.vision.images import ImageHeader, decoded, header_of, verified
from tests.pooling.vision.pictures import chunk, encoded, noise, png, riff, segment

PICTURE = noise(53, 37)
KINDS = {"PNG": "PNG", "JPEG": "JPEG", "GIF": "GIF", "WEBP": "WebP"}


def by_pillow(data: bytes) -> np.ndarray:
    """The pixels as Pillow gives them."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_is_told_by_its_content_and_decoded(kind: str) -> None:
    data = encoded(PICTURE, kind)
    assert header_of(data) == verified(data) == ImageHeader(KINDS[kind], 53, 37)
    pixels = decoded(data)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (37, 53, 3))
    assert np.array_equal(pixels, by_pillow(data))
    assert pixels.flags.writeable


def test_a_progressive_jpeg_and_an_interlaced_png_are_decoded() -> None:
    data = encoded(PICTURE, "JPEG", progressive=True)
    assert np.array_equal(decoded(data), by_pillow(data))
    head = png(8, 8, b"\0")[:29][:-1] + b"\1"
    rows = b"".join(
        b"\0" + bytes(3 * width)
        for width, count in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
        for _ in range(count)
    )
    whole = head[:8] + chunk(b"IHDR", head[16:29]) + png(8, 8, rows)[33:]
    assert np.array_equal(decoded(whole), np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_exif_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decoded(data), upright)
    header = header_of(data)
    assert (header.height, header.width) == upright.shape[:2]


def exif_of(order: str, *entries: tuple[int, int, int]) -> bytes:
    """An Exif block; an entry is a tag, a type and a number."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    body = b"".join(struct.pack(order + "HHIHH", tag, kind, 1, number, 0) for tag, kind, number in entries)
    return mark + struct.pack(order + "IH", 8, len(entries)) + body


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (exif_of("<", (0x010F, 2, 0), (0x0112, 3, 6)), True),
        (exif_of(">", (0x0112, 3, 8)), True),
        (exif_of("<", (0x0112, 3, 9)), False),
        (exif_of("<", (0x0112, 4, 6)), False),
        (exif_of("<", (0x0112, 3, 6))[:12], False),
        (b"II*\0\xff\xff\xff\xff", False),
        (b"", False),
        (b"nonsense", False),
    ],
)
def test_an_exif_block_that_says_nothing_sensible_turns_nothing(exif: bytes, turned: bool) -> None:
    jpeg = encoded(PICTURE, "JPEG")
    jpeg = jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif) + jpeg[2:]
    whole = encoded(PICTURE, "PNG")
    at_its_end = whole[:-12] + chunk(b"eXIf", exif) + whole[-12:]
    for data in (jpeg, at_its_end):
        assert decoded(data).shape == ((53, 37, 3) if turned else (37, 53, 3))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_is_white_and_what_shines_through_is_mixed_with_it(kind: str) -> None:
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    image.paste((200, 0, 0, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (0, 0, 8, 2))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = decoded(encoded(image, kind, **options))
    assert (pixels[7, 7].tolist(), pixels[7, 0].tolist()) == ([255] * 3, [200, 0, 0])
    assert np.all(np.abs(pixels[0, 0].astype(int) - 127) <= 1)


def test_the_transparent_colour_of_a_palette_or_of_grey_is_white() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.paste(0, (0, 0, 8, 4))
    for kind in ("PNG", "GIF"):
        pixels = decoded(encoded(palette, kind, transparency=1))
        assert (pixels[7, 7].tolist(), pixels[0, 0].tolist()) == ([255] * 3, [0] * 3)
    grey = png(4, 4, b"\0\x10\x20\x30\x40" * 4, chunk(b"tRNS", b"\0\x20"), colour=0)
    assert decoded(grey)[0, :, 0].tolist() == [0x10, 255, 0x30, 0x40]
    mixed = decoded(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG"))
    assert np.all(mixed == 255)


def test_of_sixteen_bits_the_higher_eight_are_taken_of_grey_and_of_colours() -> None:
    row = struct.pack(">4H", 0x0000, 0x12FF, 0xFF00, 0xFFFF)
    assert decoded(png(4, 4, (b"\0" + row) * 4, depth=16, colour=0))[0, :, 1].tolist() == [0, 0x12, 255, 255]
    transparent = chunk(b"tRNS", b"\x12\xff")
    with_white = decoded(png(4, 4, (b"\0" + row) * 4, transparent, depth=16, colour=0))
    assert with_white[0, :, 1].tolist() == [0, 255, 255, 255]
    colours = struct.pack(">12H", *(0x0100 * number + 0x80 for number in range(12)))
    pixels = decoded(png(4, 4, (b"\0" + colours) * 4, depth=16))
    assert pixels[0].reshape(-1).tolist() == list(range(12))
    transparent = chunk(b"tRNS", struct.pack(">3H", 0x0380, 0x0480, 0x0580))
    pixels[:, 1] = 255
    assert np.array_equal(decoded(png(4, 4, (b"\0" + colours) * 4, transparent, depth=16)), pixels)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_reach_from_black_to_white(depth: int) -> None:
    row = {1: b"\0\x50", 2: b"\0\x1b", 4: b"\0\x05\xaf"}[depth]
    expected = {1: [0, 255, 0, 255], 2: [0, 85, 170, 255], 4: [0, 85, 170, 255]}[depth]
    assert decoded(png(4, 4, row * 4, depth=depth, colour=0))[0, :, 2].tolist() == expected
    black = chunk(b"tRNS", b"\0\0")
    second = chunk(b"tRNS", struct.pack(">H", {1: 1, 2: 1, 4: 5}[depth]))
    for transparent, level in ((black, 0), (second, expected[1])):
        white = [255 if each == level else each for each in expected]
        assert decoded(png(4, 4, row * 4, transparent, depth=depth, colour=0))[0, :, 2].tolist() == white


def test_cmyk_becomes_rgb_also_as_adobe_writes_it() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(image, "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.all(np.abs(decoded(data).astype(int) - [255, 0, 0]) <= 3)
    assert decoded(encoded(image.convert("L"), "JPEG")).shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_image_that_moves_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    pixels = decoded(data)
    assert pixels.shape == (12, 16, 3)
    assert np.all(np.abs(pixels.astype(int) - [255, 0, 0]) <= 8)


def test_a_gifs_frame_may_reach_beyond_its_screen() -> None:
    data = bytearray(encoded(PICTURE, "GIF"))
    data[6:10] = struct.pack("<HH", 20, 10)
    assert header_of(bytes(data)) == ImageHeader("GIF", 53, 37)
    assert decoded(bytes(data)).shape == (37, 53, 3)


def test_what_a_file_holds_beside_its_pixels_reaches_no_decoder() -> None:
    whole, jpeg, gif = (encoded(PICTURE, kind) for kind in ("PNG", "JPEG", "GIF"))
    text = chunk(b"zTXt", b"key\0\0" + b"MARK" * 100) + chunk(b"iCCP", b"MARK")
    control = 13 + (3 << (gif[10] & 7) + 1)
    for bare, data in (
        (whole, whole[:33] + text + whole[33:] + b"PK\x03\x04MARK"),
        (jpeg, jpeg[:2] + segment(0xE2, b"ICC_PROFILE\0MARK") + segment(0xFE, b"MARK") + jpeg[2:]),
        (gif, gif[:control] + b"\x21\xfe\x04MARK\0" + gif[control:]),
    ):
        assert b"MARK" not in contained(data).pixels
        assert np.array_equal(decoded(data), by_pillow(bare))


def test_a_pixel_too_many_is_refused_whatever_the_rest_of_the_file_is() -> None:
    head = encoded(PICTURE, "JPEG")[:-1000]
    assert header_of(head, 53 * 37) == ImageHeader("JPEG", 53, 37)
    for read in (header_of, verified, decoded):
        with pytest.raises(TooManyPixelsError, match="53 x 37 = 1961 pixels; 1960 are the most"):
            read(head, 53 * 37 - 1)


def test_an_image_beyond_pillows_own_limit_is_decoded_where_the_caller_allows_it() -> None:
    data = png(10_000, 10_000, b"\0" * 1251 * 10_000, depth=1, colour=0)
    assert verified(data, 10**8) == ImageHeader("PNG", 10_000, 10_000)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_is_cut_off_anywhere_is_refused_and_nothing_else_happens(kind: str) -> None:
    data = encoded(PICTURE, kind)
    ends = {"JPEG": 2, "GIF": 3}.get(kind, 0)  # some decoders miss neither their end's mark nor the last code
    for length in range(0, len(data) - ends, 7):
        for read in (verified, decoded):
            with pytest.raises(ImageError):
                read(data[:length])


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)), changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6)
)
def test_bytes_that_are_changed_anywhere_give_an_image_or_an_image_error(
    kind: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(encoded(noise(12, 9), kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    try:
        header = verified(bytes(data), 10_000)
        pixels = decoded(bytes(data), 10_000)
    except ImageError as error:
        assert str(error)
    else:
        assert pixels.shape == (header.height, header.width, 3)


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x20\0\0\0WEBP", b""]),
    rest=st.binary(max_size=200),
)
def test_noise_is_refused(start: bytes, rest: bytes) -> None:
    with pytest.raises(ImageError):
        decoded(start + rest)


def test_a_webp_whose_canvas_and_picture_disagree_is_refused() -> None:
    picture = encoded(PICTURE, "WEBP", lossless=True)
    size = struct.unpack_from("<I", picture, 16)[0]
    canvas = b"\0\0\0\0" + struct.pack("<HBHB", 9, 0, 9, 0)
    with pytest.raises(ImageError, match="cut off or broken"):
        verified(riff((b"VP8X", canvas), (b"VP8L", picture[20 : 20 + size])))
