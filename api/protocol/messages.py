"""The `messages` field of chat requests: a conversation, or its token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError, bad_request
from api.protocol.inputs import WANTED, Tokens, kind_of, token_ids

Message = dict[str, Any]
"""With a role, and with content that is a text, a list of text parts, or missing beside tool calls."""

MAX_MESSAGES = 8_192
"""In one call, parts counted like messages: no model has room for more, and a million would hold up all other calls."""

# What OpenAI's and vLLM's clients send for other than text.
OTHER_PARTS = ("image", "image_url", "input_image", "video", "video_url", "audio", "audio_url", "input_audio", "file")


@dataclass(frozen=True)
class Conversation:
    """Messages to render."""

    messages: Sequence[Message]

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
                found += [part["text"] for part in content]
        return found


def parse_messages(value: object, vocabulary_size: int) -> Conversation | Tokens:
    """The messages of a request, or a 400 that says which of them is wrong and why.

    Raises:
        ApiError: neither a conversation nor token ids, empty, not text, or an id that the tokenizer does not have.
    """
    if not isinstance(value, list):
        raise _wrong("messages", value, WANTED["messages"])
    if not value:
        raise bad_request("messages is an empty list: send at least one message.", "messages", "empty")
    if type(value[0]) is int:
        return Tokens([token_ids(value, "messages", vocabulary_size)])
    _check_count(value)
    return Conversation([_message(each, f"messages[{index}]") for index, each in enumerate(value)])


def _check_count(values: Sequence[object]) -> None:
    contents = (each.get("content") for each in values if isinstance(each, dict))
    count = len(values) + sum(len(content) for content in contents if isinstance(content, list))
    if count > MAX_MESSAGES:
        raise bad_request(
            f"messages has {count} messages and parts, over the {MAX_MESSAGES} of one call: join them, or send fewer.",
            "messages",
            "too_many_inputs",
        )


def _message(value: object, place: str) -> Message:
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
        for index, part in enumerate(content):
            _check_part(part, f"{place}.content[{index}]")
        if not content:
            raise bad_request(f"{place}.content is an empty list: send at least one text part.", "messages", "empty")
    elif content is not None and not isinstance(content, str):
        raise _wrong(f"{place}.content", content, "a string or a list of text parts")
    return message


def _check_part(part: object, place: str) -> None:
    if not isinstance(part, dict):
        raise _wrong(place, part, 'an object like {"type": "text", "text": "..."}')
    kind = part.get("type")
    if kind in OTHER_PARTS:
        raise bad_request(
            f"{place} is of type {kind}, and this model takes text only: leave it out, or serve a model that takes it.",
            "messages",
            "unsupported_content",
        )
    if kind != "text":
        raise bad_request(f"{place}.type is {kind!r}; the type of a part must be 'text'.", "messages")
    if not isinstance(part.get("text"), str):
        raise _wrong(f"{place}.text", part.get("text"), "a string")


def _wrong(place: str, value: object, wanted: str) -> ApiError:
    return bad_request(f"{place} is {kind_of(value)}; it must be {wanted}.", "messages", "invalid_type")
