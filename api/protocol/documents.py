"""Inputs that are texts or images, as Jina's and Cohere's clients send them: each becomes one vector."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError, bad_request
from api.media.references import ImageReference
from api.protocol.inputs import kind_of, nonempty_text

KEYS = ("text", "image")
"""What a document of Jina's has, one of them or both."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")


@dataclass(frozen=True)
class Document:
    """One input.

    Attributes:
        parts: its texts and images, in order; at least one.
        place: how messages name it: "input[3]".
    """

    parts: Sequence[str | ImageReference]
    place: str

    @property
    def images(self) -> list[ImageReference]:
        """Its images, in order."""
        return [part for part in self.parts if isinstance(part, ImageReference)]

    @property
    def text(self) -> str:
        """Its texts, a line each."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


def jina_document(value: object, place: str) -> Document:
    """A text, or an object with `text`, with `image`, which is a URL or base64 by itself, or with an image and a text.

    Raises:
        ApiError: 400, it is something else.
    """
    if isinstance(value, str):
        return Document([nonempty_text(value, place)], place)
    named = [key for key in KEYS if isinstance(value, dict) and value.get(key) is not None]
    if not isinstance(value, dict) or not named:
        raise _wrong(place, value, 'a text, {"text": "..."} or {"image": URL}')
    parts: list[str | ImageReference] = []
    if "image" in named:
        parts.append(image_of(value["image"], f"{place}.image"))
    if "text" in named:
        parts.append(nonempty_text(value["text"], f"{place}.text"))
    return Document(parts, place)


def image_of(value: object, place: str) -> ImageReference:
    """A URL, or base64 by itself."""
    if not isinstance(value, str) or not value:
        raise _wrong(place, value, "the URL of an image, or its bytes in base64")
    return ImageReference(value if _SCHEME.match(value) else f"data:application/octet-stream;base64,{value}", place)


def cohere_document(value: object, place: str) -> Document:
    """An input of Cohere's: `{"content": [parts]}`, which are texts and images.

    Raises:
        ApiError: 400, it is something else.
    """
    content: Any = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list) or not content:
        raise bad_request(
            f'{place} must be an object like {{"content": [{{"type": "text", "text": "..."}}]}}, with one part at '
            "least.",
            place.partition("[")[0],
            "invalid_type",
        )
    return Document([_part(part, f"{place}.content[{index}]") for index, part in enumerate(content)], place)


def _part(part: object, place: str) -> str | ImageReference:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in ("text", "image_url"):
        raise bad_request(f"{place} must be an object with the type 'text' or 'image_url'.", place.partition("[")[0])
    if kind == "text":
        return nonempty_text(part.get("text"), f"{place}.text")
    named = part.get("image_url")
    if isinstance(named, dict):
        return image_of(named.get("url"), f"{place}.image_url.url")
    return image_of(named, f"{place}.image_url")


def _wrong(place: str, value: object, wanted: str) -> ApiError:
    return bad_request(f"{place} is {kind_of(value)}; it must be {wanted}.", place.partition("[")[0], "invalid_type")
