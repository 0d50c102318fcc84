"""The `messages` field of chat requests: a conversation, or its token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import bad_request
from api.media.references import ImageReference
from api.protocol.inputs import WANTED, Tokens, token_ids
from api.protocol.parts import read_part, wrong

Message = dict[str, Any]
"""With a role, and with content that is a text, a list of parts, or missing beside tool calls. A part has a text, or is
IMAGE_PART."""

IMAGE_PART = {"type": "image"}
"""An image as chat templates read it: where it stands, and nothing of where it comes from."""

MAX_MESSAGES = 8_192
"""In one call, parts counted like messages: no model has room for more, and a million would hold up all other calls."""


@dataclass(frozen=True)
class Conversation:
    """Messages to render.

    Attributes:
        images: those that stand in them, in order.
    """

    messages: Sequence[Message]
    images: Sequence[ImageReference] = ()


def parse_messages(value: object, vocabulary_size: int, *, takes_images: bool = False) -> Conversation | Tokens:
    """The messages of a request, or a 400 that says which of them is wrong and why.

    Args:
        takes_images: whether the model does.

    Raises:
        ApiError: neither a conversation nor token ids, empty, what the model does not take, or an id that the tokenizer
            does not have.
    """
    if not isinstance(value, list):
        raise wrong("messages", value, WANTED["messages"])
    if not value:
        raise bad_request("messages is an empty list: send at least one message.", "messages", "empty")
    if type(value[0]) is int:
        return Tokens([token_ids(value, "messages", vocabulary_size)])
    _check_count(value)
    images: list[ImageReference] = []
    messages = [_message(each, f"messages[{index}]", takes_images, images) for index, each in enumerate(value)]
    return Conversation(messages, images)


def _check_count(values: Sequence[object]) -> None:
    contents = (each.get("content") for each in values if isinstance(each, dict))
    count = len(values) + sum(len(content) for content in contents if isinstance(content, list))
    if count > MAX_MESSAGES:
        raise bad_request(
            f"messages has {count} messages and parts, over the {MAX_MESSAGES} of one call: join them, or send fewer.",
            "messages",
            "too_many_inputs",
        )


def _message(value: object, place: str, takes_images: bool, images: list[ImageReference]) -> Message:
    """A message as templates read it; its images come to those that were found before."""
    if not isinstance(value, dict):
        raise wrong(place, value, "an object with role and content")
    role = value.get("role")
    if not isinstance(role, str) or not role:
        raise wrong(f"{place}.role", role, "the name of a role, like user or assistant")
    # As in transformers: templates are written for keys that are missing, and not for null.
    message = {key: entry for key, entry in value.items() if entry is not None}
    content = message.get("content")
    kinds = "parts" if takes_images else "text parts"
    if content is None and not message.get("tool_calls"):
        raise wrong(f"{place}.content", content, f"a string or a list of {kinds}")
    if isinstance(content, list):
        parts = [read_part(part, f"{place}.content[{index}]", takes_images) for index, part in enumerate(content)]
        if not parts:
            raise bad_request(
                f"{place}.content is an empty list: send at least one {kinds.removesuffix('s')}.", "messages", "empty"
            )
        if takes_images:
            images += [part for part in parts if isinstance(part, ImageReference)]
            # Templates take a text with a key `image` for an image, though it be null as data sets write it.
            message["content"] = [
                IMAGE_PART if isinstance(part, ImageReference) else {k: v for k, v in given.items() if v is not None}
                for part, given in zip(parts, content, strict=True)
            ]
    elif content is not None and not isinstance(content, str):
        raise wrong(f"{place}.content", content, f"a string or a list of {kinds}")
    return message
