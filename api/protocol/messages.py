"""The `messages` field of chat requests: a conversation, or its token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError, bad_request
from api.media.references import ImageReference
from api.protocol.inputs import WANTED, Tokens, kind_of, token_ids

Message = dict[str, Any]
"""With a role, and with content that is a text, a list of text parts, or missing beside tool calls."""

MAX_MESSAGES = 8_192
"""In one call, parts counted like messages: no model has room for more, and a million would hold up all other calls."""

IMAGE_PARTS = {"image_url": "image_url", "input_image": "image_url", "image": "image"}
"""The types of parts that are images, and the key of each that holds the URL."""

# What OpenAI's and vLLM's clients send for other than text and images.
OTHER_PARTS = ("video", "video_url", "audio", "audio_url", "input_audio", "file")

DETAILS = ("auto", "low", "high")
"""What OpenAI's clients say of how closely an image is looked at; it changes nothing here."""


@dataclass(frozen=True)
class Conversation:
    """Messages to render.

    Attributes:
        messages: in which a part `{"type": "image"}` stands for each image.
        images: what these name, in order.
    """

    messages: Sequence[Message]
    images: Sequence[ImageReference] = ()

    @property
    def characters(self) -> int:
        """The length of its texts together."""
        return sum(map(len, self.texts))

    @property
    def texts(self) -> list[str]:
        """Every text in it, in order."""
        found: list[str] = []
        for message in self.messages:
            content = message.get("content")
            if isinstance(content, str):
                found.append(content)
            elif content is not None:
                found += [part["text"] for part in content if "text" in part]
        return found


def parse_messages(value: object, vocabulary_size: int) -> Conversation | Tokens:
    """The messages of a request, or a 400 that says which of them is wrong and why.

    Raises:
        ApiError: neither a conversation nor token ids, empty, neither text nor an image, or an id that the tokenizer
            does not have.
    """
    if not isinstance(value, list):
        raise _wrong("messages", value, WANTED["messages"])
    if not value:
        raise bad_request("messages is an empty list: send at least one message.", "messages", "empty")
    if type(value[0]) is int:
        return Tokens([token_ids(value, "messages", vocabulary_size)])
    _check_count(value)
    images: list[ImageReference] = []
    return Conversation([_message(each, f"messages[{index}]", images) for index, each in enumerate(value)], images)


def _check_count(values: Sequence[object]) -> None:
    contents = (each.get("content") for each in values if isinstance(each, dict))
    count = len(values) + sum(len(content) for content in contents if isinstance(content, list))
    if count > MAX_MESSAGES:
        raise bad_request(
            f"messages has {count} messages and parts, over the {MAX_MESSAGES} of one call: join them, or send fewer.",
            "messages",
            "too_many_inputs",
        )


def _message(value: object, place: str, images: list[ImageReference]) -> Message:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object with role and content")
    role = value.get("role")
    if not isinstance(role, str) or not role:
        raise _wrong(f"{place}.role", role, "the name of a role, like user or assistant")
    # As in transformers: templates are written for keys that are missing, and not for null.
    message = {key: entry for key, entry in value.items() if entry is not None}
    content = message.get("content")
    if content is None and not message.get("tool_calls"):
        raise _wrong(f"{place}.content", content, "a string or a list of text parts")
    if isinstance(content, list):
        if not content:
            raise bad_request(f"{place}.content is an empty list: send at least one part.", "messages", "empty")
        parts = [_part(part, f"{place}.content[{index}]", images) for index, part in enumerate(content)]
        return {**message, "content": parts}
    if content is not None and not isinstance(content, str):
        raise _wrong(f"{place}.content", content, "a string or a list of text parts")
    return message


def _part(part: object, place: str, images: list[ImageReference]) -> dict[str, Any]:
    """A part as templates read it; an image is added to those of its conversation."""
    if not isinstance(part, dict):
        raise _wrong(place, part, 'an object like {"type": "text", "text": "..."}')
    kind = part.get("type")
    if kind in OTHER_PARTS:
        raise bad_request(
            f"{place} is of type {kind}, which is not taken: models here read text, and some of them images.",
            "messages",
            "unsupported_content",
        )
    if isinstance(kind, str) and kind in IMAGE_PARTS:
        images.append(_image(part, IMAGE_PARTS[kind], place))
        return {"type": "image"}
    if kind != "text":
        raise bad_request(f"{place}.type is {kind!r}; the type of a part must be 'text' or 'image_url'.", "messages")
    if not isinstance(part.get("text"), str):
        raise _wrong(f"{place}.text", part.get("text"), "a string")
    # Data sets write {"text": ..., "image": null}: templates take whatever has the key for an image.
    return {key: entry for key, entry in part.items() if entry is not None}


def _image(part: Mapping[str, Any], key: str, place: str) -> ImageReference:
    """What an image part names: a URL, or an object with one."""
    named, place = part.get(key), f"{place}.{key}"
    detail = part.get("detail")
    if isinstance(named, dict):
        detail, named, place = named.get("detail", detail), named.get("url"), f"{place}.url"
    if not isinstance(named, str) or not named:
        raise _wrong(place, named, "the URL of an image: https:, or data: with the image itself")
    if detail not in (None, *DETAILS):
        raise bad_request(f"{place}: detail is {detail!r}; it must be one of {', '.join(DETAILS)}.", "messages")
    return ImageReference(named, place)


def _wrong(place: str, value: object, wanted: str) -> ApiError:
    return bad_request(f"{place} is {kind_of(value)}; it must be {wanted}.", "messages", "invalid_type")
