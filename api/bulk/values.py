"""What stands in the columns of a row: texts, lists of texts, and conversations in the forms in which they are kept."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from api.bulk.rows import RowError

Message = dict[str, Any]

# Who speaks in ShareGPT's `from`, as the collections on the hub write it, and the role that chat templates know.
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}

_TURN = re.compile(r"\n\n(Human|Assistant):")
_TURN_ROLES = {"Human": "user", "Assistant": "assistant"}

_TEXT_KEYS = ("text", "content", "passage", "passage_text", "response", "value")
"""Under which a document or answer that is an object has its text."""


def value_at(values: Mapping[str, Any], column: str) -> Any:
    """What a column holds; `body.messages` leads into an object where no column has that very name.

    Raises:
        KeyError: there is none.
    """
    if column in values:
        return values[column]
    first, dot, rest = column.partition(".")
    inside = values.get(first) if dot else None
    if not isinstance(inside, Mapping):
        raise KeyError(column)
    return value_at(inside, rest)


def has(values: Mapping[str, Any], column: str) -> bool:
    """Whether there is such a column, as `value_at` finds it."""
    try:
        value_at(values, column)
    except KeyError:
        return False
    return True


def kind_of(value: object) -> str:
    """A value in words, for a sentence about what it should have been."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"


def text_of(value: object, column: str) -> str:
    """A string as it stands."""
    if not isinstance(value, str):
        raise RowError(column, f"is {kind_of(value)}; it must be a string")
    return value


def texts_of(value: object, column: str) -> list[str]:
    """Strings of a list of strings, or of objects with a text; a list may stand in a string as JSON."""
    value = unfolded(value)
    if not isinstance(value, list) or not value:
        raise RowError(column, f"is {kind_of(value)}; it must be a list of strings, or of objects with a text")
    return [_text_in(each, f"{column}[{index}]") for index, each in enumerate(value)]


def _text_in(value: object, place: str) -> str:
    if isinstance(value, dict):
        for key in _TEXT_KEYS:
            if isinstance(value.get(key), str):
                return str(value[key])
        raise RowError(place, f"has no text under any of {', '.join(_TEXT_KEYS)}")
    return text_of(value, place)


def unfolded(value: object) -> object:
    """A list or object that stands in a string as JSON, as CSV has it; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        return found if isinstance(found, list | dict) else value
    return value


def is_conversation(value: object) -> bool:
    """Whether it is a message or a list of messages, as they are or in a string as JSON."""
    value = unfolded(value)
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and ("role" in first or "from" in first)


def conversation_of(value: object, column: str) -> list[Message]:
    """Messages of a list (or of one message), each with `role` and `content` or, as in ShareGPT, `from` and `value`.

    Fields of a message that are null are left out: in Parquet every message has the fields of all.
    """
    value = unfolded(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise RowError(column, f"is {kind_of(value)}; it must be a list of messages")
    return [_message(each, f"{column}[{index}]") for index, each in enumerate(value)]


def _message(value: object, place: str) -> Message:
    if not isinstance(value, dict):
        raise RowError(place, f"is {kind_of(value)}; it must be a message, an object with role and content")
    message = {key: each for key, each in value.items() if each is not None}
    if "role" not in message and "from" in message:
        return _sharegpt_message(message, place)
    if not isinstance(message.get("role"), str):
        raise RowError(f"{place}.role", f"is {kind_of(message.get('role'))}; it must be a string")
    content = message.get("content")
    if content is None and not message.get("tool_calls"):
        raise RowError(f"{place}.content", "is null; it must be a string or a list of text parts")
    if isinstance(content, list):
        message["content"] = [_part(each) for each in content]
    return message


def _part(value: object) -> object:
    return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value


def _sharegpt_message(message: Message, place: str) -> Message:
    role = _ROLES.get(str(message["from"]).lower())
    if role is None:
        raise RowError(f"{place}.from", f"is {str(message['from'])[:40]!r}; known are {', '.join(sorted(_ROLES))}")
    return {"role": role, "content": text_of(message.get("value"), f"{place}.value")}


def is_transcript(value: object) -> bool:
    r"""Whether it is a text of turns as in Anthropic's hh-rlhf: "\n\nHuman: ...\n\nAssistant: ..."."""
    return isinstance(value, str) and re.match(r"\s*Human:", value) is not None and "\n\nAssistant:" in value


def transcript_of(value: object, column: str) -> list[Message]:
    """The turns of a text as in hh-rlhf, without the white space around each."""
    if not is_transcript(value):
        raise RowError(column, 'must be a text of turns that begin with "Human:" and "Assistant:" after an empty line')
    _, *found = _TURN.split("\n\n" + text_of(value, column).lstrip())
    return [
        {"role": _TURN_ROLES[who], "content": said.strip()} for who, said in zip(found[::2], found[1::2], strict=True)
    ]


def turns_of(value: object, column: str) -> list[Message]:
    """A prompt that is one text of the user, or messages."""
    return conversation_of(value, column) if is_conversation(value) else [user(text_of(value, column))]


def answer_of(value: object, column: str) -> list[Message]:
    """An answer that is one text of the assistant, or messages."""
    if is_conversation(value):
        return conversation_of(value, column)
    return [{"role": "assistant", "content": text_of(value, column)}]


def user(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}
