"""Images in the columns of records: URLs, paths, bytes, and objects that hold one of these.

What lies on this machine is read when it is sent, and goes to the server within the request: a server need not see the
files, nor be allowed to.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import orjson

from api.bulk.rows import RowError
from api.bulk.values import kind_of, unfolded

REMOTE = ("http://", "https://", "data:")
LOCAL = "file://"
INLINE = "data:application/octet-stream;base64,"
"""Before the bytes of an image; what kind it is, the server sees from them."""

_MARK = b'"url":"file://'
"""How a request of `encoded` names a file."""


def is_image(value: object) -> bool:
    """Whether it may be an image, or a list of images."""
    value = unfolded(value)
    if isinstance(value, list):
        return bool(value) and all(map(is_image, value))
    if isinstance(value, dict):
        return value.get("bytes") is not None or isinstance(value.get("path", value.get("url")), str)
    return isinstance(value, (str, bytes)) and bool(value)


def image_parts(value: object, column: str) -> list[dict[str, Any]]:
    """The parts of a message that images are; RowError where a file is not there or a value is no image."""
    value = unfolded(value)
    values = value if isinstance(value, list) else [value]
    return [{"type": "image_url", "image_url": {"url": _url_of(each, column)}} for each in values]


def _url_of(value: object, column: str) -> str:
    if isinstance(value, Mapping):  # as Hugging Face's datasets keep images
        value = value["bytes"] if value.get("bytes") is not None else value.get("path", value.get("url"))
    if isinstance(value, bytes):
        return INLINE + base64.b64encode(value).decode()
    if not isinstance(value, str) or not value:
        raise RowError(column, f"is {kind_of(value)}; it must be the URL, the path or the bytes of an image")
    if value.lower().startswith(REMOTE):
        return value
    path = _path_of(value) if value.lower().startswith(LOCAL) else Path(value).absolute()
    if not path.is_file():
        raise RowError(column, f"names the file {value!r}, which is not there")
    return path.as_uri()


def sent_size(request: bytes) -> int:
    """How many bytes a request will have when it is sent, about."""
    if _MARK not in request:
        return len(request)
    sizes = (path.stat().st_size for path in _files_of(orjson.loads(request)) if path.is_file())
    return len(request) + sum(size * 4 // 3 for size in sizes)


def with_files(request: bytes) -> bytes:
    """A request with its files within it; one that has gone stays a name, which the server refuses for this row."""
    if _MARK not in request:
        return request
    row = orjson.loads(request)
    for part in _parts_of(row):
        path = _path_of(part["image_url"]["url"])
        if path.is_file():
            part["image_url"]["url"] = INLINE + base64.b64encode(path.read_bytes()).decode()
    return orjson.dumps(row)


def _files_of(row: Mapping[str, Any]) -> list[Path]:
    return [_path_of(part["image_url"]["url"]) for part in _parts_of(row)]


def _parts_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a request that name files."""
    contents = [each.get("content") for each in row.get("messages", ())]
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    named = [part for part in parts if isinstance(part.get("image_url"), dict)]
    return [part for part in named if str(part["image_url"].get("url")).startswith(LOCAL)]


def _path_of(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))
