"""Images that need no network: in the URL itself (`data:`, RFC 2397), and in a directory of this machine (`file:`)."""

import base64
import binascii
import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from api.media.errors import UrlError
from api.media.references import MediaLimits

_NO_DIGIT = 255
_HEX = np.full(256, _NO_DIGIT, np.uint8)
for _digit in b"0123456789abcdefABCDEF":
    _HEX[_digit] = int(chr(_digit), 16)

LONGEST_PATH = 4_096
"""Characters of a file's URL: PATH_MAX of Linux."""


def in_data_uri(url: str, limits: MediaLimits) -> bytes:
    """What a `data:` URI holds, in base64 or escaped with %. Its media type is not looked at: content decides.

    Raises:
        UrlError: it has no comma, is not ASCII, or is encoded wrongly.
    """
    comma = url.find(",")
    if comma < 0:
        raise UrlError("the data: URI has no comma before its data")
    if not url.isascii():
        raise UrlError("the data: URI is not ASCII")
    in_base64 = url[:comma].rstrip().lower().endswith(";base64")
    # Base64 has 4 characters for 3 bytes; escaped, each character is up to 3 longer.
    if not in_base64 and (len(url) - comma) // 3 > limits.image_bytes:
        raise UrlError(too_long(limits))
    body = _unescaped(url[comma + 1 :].encode())
    if not in_base64:
        return body
    body = body.translate(None, b" \t\r\n\f").rstrip(b"=")
    if len(body) * 3 // 4 > limits.image_bytes:
        raise UrlError(too_long(limits))
    try:
        return base64.b64decode(body + b"=" * (-len(body) % 4), validate=True)
    except binascii.Error as error:
        raise UrlError(f"the base64 of the data: URI is wrong: {error}") from error


def _unescaped(body: bytes) -> bytes:
    """Text with %41 for A. By arrays: the standard library makes an object of each escape, seven million of 20 MiB."""
    if b"%" not in body:
        return body
    letters = np.frombuffer(body, np.uint8)
    escapes = np.flatnonzero(letters == ord("%"))
    if escapes[-1] + 2 >= len(letters):
        raise UrlError("the data: URI ends within an escape")
    high, low = _HEX[letters[escapes + 1]], _HEX[letters[escapes + 2]]
    if np.any((high == _NO_DIGIT) | (low == _NO_DIGIT)):
        raise UrlError("the data: URI has a % that is not followed by two hexadecimal digits")
    unescaped = letters.copy()
    unescaped[escapes] = high << 4 | low
    kept = np.ones(len(letters), np.bool_)
    kept[escapes + 1] = False
    kept[escapes + 2] = False
    return unescaped[kept].tobytes()


def in_file(url: str, limits: MediaLimits) -> bytes:
    """The regular file that a `file:` URL names, below --allowed-local-media-path once symbolic links are resolved.

    It blocks. What is elsewhere, is not there, or may not be read is told in the same words, so that nobody learns
    which files there are.

    Raises:
        UrlError: there is no such directory or file, or it is too long.
    """
    if limits.local_path is None:
        raise UrlError("file: URLs are not taken, as there is no --allowed-local-media-path")
    if len(url) > LONGEST_PATH:
        raise UrlError(f"the URL has {len(url)} characters; {LONGEST_PATH} are the most of a file's")
    try:
        parts = urlsplit(url)
        asked = Path(unquote(parts.path, errors="strict"))
        if parts.netloc not in ("", "localhost") or parts.query or not asked.is_absolute():
            raise UrlError("a file's URL is file:///PATH, without a host, and with %3F for a question mark")
        found = asked.resolve(strict=True).relative_to(limits.local_path)
        return _read(limits.local_path, found, limits)
    except UrlError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise UrlError("there is no file of this name that may be read below --allowed-local-media-path") from error


def _read(directory: Path, relative: Path, limits: MediaLimits) -> bytes:
    """A file's bytes, opened step by step without following links: one that was put there meanwhile leads nowhere."""
    *between, name = relative.parts
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for each in between:
            below = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = below
        # Opening a pipe would wait for a writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    finally:
        os.close(place)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError("not a regular file")
        data = opened.read(limits.image_bytes + 1)
    if len(data) > limits.image_bytes:
        raise UrlError(too_long(limits))
    return data


def too_long(limits: MediaLimits) -> str:
    """What is said of an image of too many bytes."""
    return f"the image is longer than {limits.image_bytes} bytes, the most that --max-image-bytes allows"
