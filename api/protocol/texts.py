"""A text of a query or a document: alone, or in an object, as Jina, Cohere and vLLM write it."""

from pydantic.config import JsonDict

from api.errors import bad_request
from api.media.references import ImageReference
from api.protocol.documents import image_of
from api.protocol.inputs import kind_of, nonempty_text

IMAGE_KEYS = ("image", "image_url")
"""How Jina's clients write what is not text."""

FORMS = '{"text": ...}, or {"content": [{"type": "text", "text": ...}]}'

TEXT_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]},
        {"type": "object", "properties": {"image": {"type": "string", "minLength": 1}}, "required": ["image"]},
        {
            "type": "object",
            "properties": {
                "content": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1,
                    "items": {
                        "type": "object",
                        "properties": {"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}},
                        "required": ["type", "text"],
                    },
                }
            },
            "required": ["content"],
        },
    ]
}


Compared = str | ImageReference
"""A query or a document: a text, or an image."""


def text_or_image_of(value: object, place: str) -> Compared:
    """As `text_of`; or the image of Jina's object with `image`, or of one with `image_url`.

    Raises:
        ApiError: as `text_of`.
    """
    key = next((key for key in IMAGE_KEYS if isinstance(value, dict) and value.get(key) is not None), None)
    if not isinstance(value, dict) or key is None or "text" in value:
        return text_of(value, place)
    named = value[key]
    return image_of(named.get("url") if isinstance(named, dict) else named, place)


def text_of(value: object, place: str) -> str:
    """The text of a string, of Jina's object with `text`, or of vLLM's with one part of `content`.

    Args:
        place: where it stands in the request.

    Raises:
        ApiError: 400 that says what is wrong with it.
    """
    if not isinstance(value, dict):
        if not isinstance(value, str):
            field = _field(place)
            raise bad_request(
                f"{place} is {kind_of(value)}; it must be a string, or an object like {FORMS}.", field, "invalid_type"
            )
        return nonempty_text(value, place)
    if "content" in value and "text" not in value:
        return _of_part(value["content"], f"{place}.content")
    if "text" not in value and any(key in value for key in IMAGE_KEYS):
        raise bad_request(
            f"{place} is an image, and only texts are compared: leave it out.", _field(place), "unsupported_content"
        )
    return nonempty_text(value.get("text"), f"{place}.text")


def _of_part(content: object, place: str) -> str:
    """The one text part of an object's content."""
    field = _field(place)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise bad_request(f"{place} is {kind_of(content)}; it must be a list of one part.", field, "invalid_type")
    if len(content) != 1:
        raise bad_request(f"{place} has {len(content)} parts; it must have one, of type text.", field)
    (part,) = content
    if part.get("type") != "text":
        raise bad_request(
            f"{place}[0] is of type {part.get('type')!r}, and only texts are compared: send a part of type text.",
            field,
            "unsupported_content",
        )
    return nonempty_text(part.get("text"), f"{place}[0].text")


def _field(place: str) -> str:
    return place.partition("[")[0].partition(".")[0]
