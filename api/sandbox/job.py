"""What goes between the api and the processes that render: a job there, its texts or why there are none back."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any, Self

import msgpack

HEADER = struct.Struct("<I?")
"""Before each message: its length in bytes, and whether its sender ends after it."""

SECONDS = 0.5
"""For one conversation. A template of a real checkpoint takes 0.1 ms, compiling a long one 20 ms."""

MEMORY_BYTES = 256 * 1024 * 1024
"""What rendering may take, beside what the process has at its start."""

LONGEST_TEXT = 1_000_000
"""Characters that a template may make of nothing; to them comes twice the size of what it was given, in bytes."""


NESTED_TOO_DEEP = "messages and chat_template_kwargs are nested more than a thousand times: no template reads that."


LIMIT = "template_limit"
"""The code of a refusal for what rendering may take."""


def framed(data: bytes, last: bool = False) -> bytes:
    """A message with its header."""
    return HEADER.pack(len(data), last) + data


class OutOfMemoryError(Exception):
    """A template took more memory than it may."""


class Refusal(Exception):  # noqa: N818 - nothing is wrong with the api: it is what a caller is told
    """Why there is no text, in the words of a 400.

    Args:
        param: the field of the request that it is about.
        code: a word for programs.
    """

    def __init__(self, message: str, param: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Origin:
    """A template, and how messages to callers speak of it.

    Attributes:
        source: the template itself.
        name: whose it is: "The chat template of this model".
        file: where it stands: "chat_template.jinja".
        field: the field of a request that is wrong when the template is.
    """

    source: str
    name: str
    file: str
    field: str


@dataclass(frozen=True)
class Job:
    """Conversations to render by one template.

    Attributes:
        special_tokens: their texts by name, which the template may look at.
        roles: of the messages by which it is found out in which form the template reads content.
        conversations: lists of messages.
        variables: what else the template may look at.
    """

    origin: Origin
    special_tokens: Mapping[str, str]
    roles: Sequence[str]
    conversations: Sequence[Sequence[Mapping[str, Any]]]
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """As bytes.

        Raises:
            ValueError: messages or variables are nested more than a thousand times.
        """
        parts = [getattr(self, name) for name in _PARTS]
        return bytes(msgpack.packb([astuple(self.origin), dict(self.special_tokens), *parts]))

    @classmethod
    def decoded(cls, data: bytes | bytearray) -> Self:
        """From bytes; raises ValueError as `encoded` does."""
        origin, special_tokens, *parts = msgpack.unpackb(data)
        return cls(Origin(*origin), special_tokens, *parts)


_PARTS = [each.name for each in fields(Job)[2:]]


def longest_text(data: bytes | bytearray) -> int:
    """The most characters that a template may make of a job of these bytes."""
    return LONGEST_TEXT + 2 * len(data)


def encoded_texts(texts: Sequence[str]) -> bytes:
    """A reply that has them; raises UnicodeEncodeError for what no UTF-8 is."""
    return bytes(msgpack.packb(list(texts)))


def encoded_refusal(refusal: Refusal) -> bytes:
    """A reply that tells why there are none."""
    reasons = {"message": refusal.message, "param": refusal.param, "code": refusal.code}
    return bytes(msgpack.packb(reasons, unicode_errors="replace"))


def encoded_out_of_memory() -> bytes:
    """A reply that tells that there is no memory for them."""
    return bytes(msgpack.packb(None))


def decoded_reply(data: bytes | bytearray) -> list[str]:
    """The texts of a reply.

    Raises:
        Refusal: there are none.
        OutOfMemoryError: neither is there memory for them.
    """
    reply = msgpack.unpackb(data)
    if reply is None:
        raise OutOfMemoryError
    if isinstance(reply, dict):
        raise Refusal(**reply)
    return list(reply)
