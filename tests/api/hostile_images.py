"""Images and URLs that are sent to do harm, and what is said of each. Every one is answered 400."""

import base64
import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from tests.api.media_host import MediaHost
from tests.pooling.vision.pictures import (
    JPEG_SIZE,
    PNG_SIGNATURE,
    chunk,
    encoded,
    gif_head,
    noise,
    png,
    riff,
    segment,
)

MOST_BYTES = 4_000_000
"""What --max-image-bytes is where this list is run."""


@dataclass(frozen=True)
class Hostile:
    """One of the list.

    Attributes:
        says: a part of the message.
        until_timeout: it keeps whoever fetches it for all the time that there is.
    """

    name: str
    url: str
    says: str
    until_timeout: bool = False


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """A file in base64."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@functools.cache
def hostile_files() -> Mapping[str, tuple[bytes, str]]:
    """Files by what is wrong with them, and a part of what is said."""
    return {**_bombs(), **_sizes(), **_broken(), **_slow_to_read(), **_no_images()}


def _bombs() -> dict[str, tuple[bytes, str]]:
    jpeg = encoded(noise(16, 16), "JPEG")
    at = jpeg.index(JPEG_SIZE) + 5
    vast = struct.pack("<I", 0x2F | (16383 << 8))[:1] + struct.pack("<I", 16383 | 16383 << 14)
    canvas = b"\0\0\0\0" + b"\xff\xff\xff" * 2
    return {
        "400 megapixels in 50 KB of PNG": (png(20_000, 20_000, b"\0" * 2501 * 20_000, depth=1, colour=0), "pixels"),
        "PNG that claims 4 billion rows": (png(2**31 - 1, 2**31 - 1, b"\0"), "pixels"),
        "JPEG that claims 65535 x 65535": (jpeg[:at] + b"\xff" * 4 + jpeg[at + 4 :], "pixels"),
        "GIF that claims 65535 x 65535": (gif_head(65535, 65535) + b"\x2c" + b"\0" * 20, "pixels"),
        "GIF whose frame is beyond its screen": (
            gif_head(8, 8) + b"\x2c" + struct.pack("<HHHH", 60_000, 60_000, 8, 8) + b"\0" * 20,
            "pixels",
        ),
        "WebP with a canvas of 16777216 x 16777216": (riff((b"VP8X", canvas)), "pixels"),
        "WebP without loss that claims 16384 x 16384": (riff((b"VP8L", vast)), "pixels"),
        "WebP with loss that claims 16383 x 16383": (
            riff((b"VP8 ", b"\x30\x01\0\x9d\x01\x2a\xff\x3f\xff\x3f")),
            "pixels",
        ),
    }


def _sizes() -> dict[str, tuple[bytes, str]]:
    jpeg = encoded(noise(16, 16), "JPEG")
    at = jpeg.index(JPEG_SIZE)
    end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return {
        "1 x 1": (encoded(noise(1, 1), "PNG"), "a side has at least 4"),
        "1 x 20000": (encoded(noise(1, 20_000), "PNG"), "a side has at least 4"),
        "20000 x 5": (encoded(noise(20_000, 5), "PNG"), "200 times"),
        "no pixels at all": (png(0, 0, b"\0"), "a side has at least 4"),
        "JPEG that tells its height after its pixels": (jpeg[: at + 5] + b"\0\0" + jpeg[at + 7 :], "at least 4"),
        "JPEG of two sizes": (jpeg[:end] + jpeg[at:], "two sizes"),
    }


def _broken() -> dict[str, tuple[bytes, str]]:
    picture = noise(60, 50)
    files = {kind: encoded(picture, kind) for kind in ("PNG", "JPEG", "GIF", "WEBP")}
    cut = {f"{kind} cut in half": (data[: len(data) // 2], "cut off") for kind, data in files.items()}
    whole = files["PNG"]
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    return {
        **cut,
        "PNG without an end": (whole[:-12], "cut off"),
        "PNG with a wrong checksum": (bytes(flipped), "cut off or broken"),
        "PNG of noise": (
            PNG_SIGNATURE + whole[8:33] + chunk(b"IDAT", b"\xa5" * 999) + chunk(b"IEND", b""),
            "cut off or broken",
        ),
        "PNG with two headers": (whole[:33] + whole[8:], "one header"),
        "WebP of noise": (riff((b"VP8L", b"\x2f\x31\x80\x0c\0" + b"\xa5" * 500)), "cut off or broken"),
        "GIF of noise": (
            gif_head(50, 50) + b"\x2c" + struct.pack("<HHHHB", 0, 0, 50, 50, 0) + b"\x0f\xff" + b"\xa5" * 300,
            "cut off or broken",
        ),
    }


def _slow_to_read() -> dict[str, tuple[bytes, str]]:
    progressive = encoded(noise(64, 64), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scans = progressive[:-2] + progressive[last:-2] * 200 + b"\xff\xd9"
    small = encoded(noise(8, 8), "PNG")
    jpeg = encoded(noise(8, 8), "JPEG")
    return {
        "JPEG of 200 scans": (scans, "100 times"),
        "PNG of 200000 chunks": (small[:33] + chunk(b"tEXt", b"") * 200_000 + small[33:], "more than 100000"),
        "JPEG with a megabyte of fill": (jpeg[:2] + b"\xff" * 1_000_000 + jpeg[2:], "more than 100000"),
        "JPEG of 150000 segments": (jpeg[:2] + segment(0xE5, b"") * 150_000 + jpeg[2:], "more than 100000"),
        "GIF with comments of a megabyte": (
            gif_head(8, 8) + b"\x21\xfe" + b"\x01a" * 500_000 + b"\0\x2c" + b"\0" * 20,
            "more than 100000",
        ),
    }


def _no_images() -> dict[str, tuple[bytes, str]]:
    jpeg = encoded(noise(16, 16), "JPEG")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/"/></svg>'
    entity = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'
    return {
        "SVG": (svg, "SVG"),
        "SVG with an entity of another file": (entity, "SVG"),
        "PDF with a JPEG in it": (b"%PDF-1.7\n1 0 obj<</Filter/DCTDecode>>stream\n" + jpeg, "a PDF"),
        "TIFF": (b"II*\0\x08\0\0\0" + b"\0" * 64, "a TIFF"),
        "BMP": (b"BM" + b"\0" * 64, "a BMP"),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        "video": (b"\0\0\0\x18ftypmp42" + b"\0" * 64, "a video"),
        "AVIF": (b"\0\0\0\x1cftypavif" + b"\0" * 64, "an AVIF"),
        "ZIP": (b"PK\x03\x04" + b"\0" * 64, "no image"),
        "HTML before a PNG": (b"<html><script>0</script>" + encoded(noise(8, 8), "PNG"), "HTML"),
        "GIF that is a script": (b"GIF89a/*" + b" " * 40 + b"*/=1;alert(1)//", "no frame"),
        "PNG that is a page": (PNG_SIGNATURE + b"<html><script>alert(1)</script></html>", "cut off"),
        "RIFF with sound": (b"RIFF" + struct.pack("<I", 60) + b"WAVEfmt " + b"\0" * 60, "no image"),
        "pickle": (b"\x80\x04cos\nsystem\n(S'id'\ntR.", "no image"),
        "nothing": (b"", "empty"),
    }


def hostile_images() -> list[Hostile]:
    """The files, each as a `data:` URI, and `data:` URIs that are wrong themselves."""
    files = [Hostile(name, data_uri(data), says) for name, (data, says) in hostile_files().items()]
    uris = {
        "data: without a comma": ("data:image/png;base64", "no comma"),
        "data: of wrong base64": ("data:image/png;base64,@@@@", "base64"),
        "data: of one letter": ("data:image/png;base64,A", "base64"),
        "data: that is not ASCII": ("data:image/png,é", "not ASCII"),
        "data: with a wrong escape": ("data:image/png,%zz", "two hexadecimal digits"),
        "data: that ends in an escape": ("data:image/png,abc%8", "ends within"),
        "data: too long in base64": (data_uri(b"\0" * (MOST_BYTES + 1)), "--max-image-bytes"),
        "data: too long in escapes": ("data:," + "%00" * (MOST_BYTES + 1), "--max-image-bytes"),
        "data: of a text": ("data:text/plain,hello", "no image"),
    }
    return files + [Hostile(name, url, says) for name, (url, says) in uris.items()]


_PRIVATE = {
    "this machine": "http://127.0.0.1/",
    "this machine by a name": "http://localhost/",
    "this machine in short": "http://127.1/",
    "this machine as a number": "http://2130706433/",
    "this machine in hexadecimal": "http://0x7f000001/",
    "this machine in octal": "http://0177.0.0.1/",
    "this machine as any": "http://0.0.0.0/",
    "this machine in IPv6": "http://[::1]/",
    "this machine in IPv6's clothes": "http://[::ffff:127.0.0.1]/",
    "this machine by 6to4": "http://[2002:7f00:1::]/",
    "this machine by NAT64": "http://[64:ff9b::7f00:1]/",
    "a private network": "http://10.0.0.1/",
    "another private network": "https://192.168.0.1/",
    "a private network in IPv6": "http://[fd00::1]/",
    "a link": "http://[fe80::1%25eth0]/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata in IPv6's clothes": "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
    "metadata by a name": "http://metadata.google.internal/computeMetadata/v1/",
    "metadata of another cloud": "http://100.100.100.200/latest/meta-data/",
    "metadata in IPv6": "http://[fd00:ec2::254]/latest/meta-data/",
    "a name without a dot": "http://redis:6379/",
    "everybody": "http://255.255.255.255/",
}

_WRONG = {
    "a user": ("http://me@media.example.com/", "a user or a password"),
    "a host that is a user": ("http://media.example.com:80@127.0.0.1/", "a user or a password"),
    "a backslash": ("http://media.example.com\\@127.0.0.1/", "printable ASCII"),
    "digits in circles": ("http://①②⑦.⓪.⓪.①/", "printable ASCII"),
    "a line break": ("http://media.example.com/\r\nX-Header: 1", "printable ASCII"),
    "an escape in the host": ("http://127.0.0.%31/", "no host"),
    "no host": ("http:///image.png", "no host"),
    "port 0": ("http://media.example.com:0/", "no port"),
    "port 99999": ("http://media.example.com:99999/", "cannot be read"),
    "half an address": ("http://[::1/", "cannot be read"),
    "a file": ("file:///etc/passwd", "--allowed-local-media-path"),
    "a file of another host": ("file://media.example.com/share/x.png", "--allowed-local-media-path"),
    "ftp": ("ftp://media.example.com/x.png", "none of https://"),
    "gopher": ("gopher://127.0.0.1:6379/_FLUSHALL", "none of https://"),
    "a script": ("javascript:alert(1)", "none of https://"),
    "a path": ("/etc/passwd", "none of https://"),
    "nothing": ("", "none of https://"),
    "ten thousand letters": ("http://media.example.com/" + "x" * 10_000, "8192"),
}

_MISBEHAVING = {
    "~html": "HTML",
    "~compressed": "no image",
    "~garbage": "could not be reached, or did not speak HTTP",
    "~reset": "did not speak HTTP",
    "~empty": "empty",
    "~short": "did not speak HTTP",
    "~loop": "more than 3 redirects",
    "~nowhere": "answered 302",
    "~failing": "answered 500",
    "~partial": "answered 206",
    "~absent": "answered 404",
    "~boast": "--max-image-bytes",
    "~endless": "--max-image-bytes",
    "~endless-head": "did not speak HTTP",
    "~crumbs": "parts of a few bytes",
    "~redirect/4/good.png": "more than 3 redirects",
}

_KEEPING = ("~silent", "~slow-head", "~patience", "~drip")

_REDIRECTED = {
    "http://127.0.0.1:6379/": "",
    "http://169.254.169.254/latest/meta-data/": "",
    "http://[::ffff:127.0.0.1]/": "",
    "//localhost/": "",
    "file:///etc/passwd": "none of https://",
    "data:image/png,x": "none of https://",
    "http://me:secret@media.example.com/": "a user",
}


def hostile_urls(host: MediaHost, name: str, refusal: str) -> list[Hostile]:
    """URLs that are wrong, lead where nothing is fetched, or to a host that misbehaves.

    Args:
        host: that misbehaves, and how it is called in URLs.
        refusal: what is said of hosts that are not public, or not allowed.
    """
    private = [Hostile(what, url, refusal) for what, url in _PRIVATE.items()]
    wrong = [Hostile(what, url, says) for what, (url, says) in _WRONG.items()]
    misbehaving = [Hostile(path, host.url(path, name), says) for path, says in _MISBEHAVING.items()]
    keeping = [Hostile(path, host.url(path, name), "--media-timeout", True) for path in _KEEPING]
    redirected = [
        Hostile(f"a redirect to {url}", host.url(f"~to/{quote(url, '')}", name), says or refusal)
        for url, says in _REDIRECTED.items()
    ]
    return private + wrong + misbehaving + keeping + redirected
