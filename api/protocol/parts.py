"""Parts of content, as messages and Cohere's inputs have them: a text, or an image by its URL."""

from collections.abc import Mapping
from typing import Any

from api.errors import ApiError, bad_request
from api.media.references import ImageReference
from api.protocol.inputs import kind_of

Part = str | ImageReference

IMAGE_PARTS = ("image_url", "input_image", "image")
"""What OpenAI's two interfaces and transformers call an image."""

# What OpenAI's and vLLM's clients send for other than text and images.
OTHER_PARTS = ("video", "video_url", "input_video", "audio", "audio_url", "input_audio", "file", "input_file")

DETAILS = ("auto", "low", "high")
"""OpenAI's: how closely an image is looked at. All mean the same here: `mm_processor_kwargs` say how large it is."""

PART_SCHEMAS: tuple[dict[str, Any], ...] = (
    {
        "type": "object",
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
        "required": ["type", "text"],
    },
    {
        "type": "object",
        "description": "For models that take images.",
        "properties": {
            "type": {"enum": ["image_url", "input_image"]},
            "image_url": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "properties": {"url": {"type": "string"}, "detail": {"enum": list(DETAILS)}},
                        "required": ["url"],
                    },
                ]
            },
        },
        "required": ["type", "image_url"],
    },
)
"""What OpenAPI says of a part."""


def read_part(part: object, place: str, takes_images: bool) -> Part:
    """What a part is.

    Args:
        place: where it stands in the request: `messages[0].content[1]`.
        takes_images: whether the model does.

    Raises:
        ApiError: 400, it is neither a text nor an image by its URL, or an image for a model that takes none.
    """
    if not isinstance(part, dict):
        raise wrong(place, part, 'an object like {"type": "text", "text": "..."}')
    kind = part.get("type")
    if kind in IMAGE_PARTS and takes_images:
        return _image(part, place)
    if kind in IMAGE_PARTS or kind in OTHER_PARTS:
        taken, remedy = ("text and images", "") if takes_images else ("text only", ", or serve a model that takes it")
        raise bad_request(
            f"{place} is of type {kind}, and this model takes {taken}: leave it out{remedy}.",
            field_of(place),
            "unsupported_content",
        )
    if kind != "text":
        kinds = f"'text', or of an image {', '.join(map(repr, IMAGE_PARTS))}" if takes_images else "'text'"
        raise bad_request(f"{place}.type is {kind!r}; the type of a part must be {kinds}.", field_of(place))
    text = part.get("text")
    if not isinstance(text, str):
        raise wrong(f"{place}.text", text, "a string")
    return text


def _image(part: Mapping[str, Any], place: str) -> ImageReference:
    """The image of a part of one of IMAGE_PARTS: its URL, or an object with it; `detail` beside it changes nothing."""
    name = "image" if part["type"] == "image" else "image_url"
    value = part.get(name)
    holder = value if isinstance(value, dict) else {"url": value, "detail": part.get("detail")}
    detail = holder.get("detail")
    if detail is not None and detail not in DETAILS:
        raise bad_request(
            f"{place} has the detail {detail!r}; it must be one of {', '.join(DETAILS)}, or absent.", field_of(place)
        )
    return image_at(holder.get("url"), f"{place}.{name}")


def image_at(url: object, place: str) -> ImageReference:
    """The image of a URL; whether that is taken, and leads to an image, is found when it is fetched.

    Raises:
        ApiError: 400, it is no string, or empty.
    """
    if not isinstance(url, str):
        raise wrong(place, url, "the URL of an image (https:, http: or data:), or an object with it as url")
    if not url:
        raise bad_request(f"{place} is an empty string: send the URL of an image.", field_of(place), "empty")
    return ImageReference(url, place)


def field_of(place: str) -> str:
    """The field of the request in which a place is: `messages` of `messages[0].role`."""
    return place.partition("[")[0].partition(".")[0]


def wrong(place: str, value: object, wanted: str) -> ApiError:
    """A 400 for a value of another type than is wanted."""
    return bad_request(f"{place} is {kind_of(value)}; it must be {wanted}.", field_of(place), "invalid_type")
