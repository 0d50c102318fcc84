"""From messages to the text that a chat template makes of them, as transformers renders it."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2

from api.sandbox.environment import environment
from api.sandbox.job import LIMIT, LONGEST_TEXT, Origin, Refusal

Message = Mapping[str, Any]

CONTINUE_HERE = "CONTINUE_FINAL_MESSAGE_TAG "
"""Marks the end of the message to be continued, as in transformers: what a template puts behind it is cut off."""

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's reasoning is sent; templates read the first one, some the second."""

LONGEST_REASON = 500
"""Characters of a template's own words that a caller gets to see."""


class Template:
    """A chat template, compiled, and what it was found out to read."""

    def __init__(self, origin: Origin, special_tokens: Mapping[str, str], roles: Sequence[str]) -> None:
        """A template; the arguments are those of a `Job`."""
        self._origin = origin
        self._special_tokens = special_tokens
        self._roles = roles

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any],
        longest: int,
    ) -> str:
        """The messages as one text of at most `longest` characters.

        Raises:
            Refusal: with the template's own words, when it refuses the messages or fails on them.
        """
        chosen = [self._fitted(message) for message in messages]
        if continue_final_message:
            chosen[-1] = _marked(chosen[-1])
        text = self._rendered(chosen, add_generation_prompt, variables, longest)
        return _until_mark(text) if continue_final_message else text

    def _fitted(self, message: Message) -> Message:
        """The message with its content in the form that the template reads, and its reasoning under every name."""
        reasoning = next((message[name] for name in REASONING_FIELDS if name in message), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        content = message.get("content")
        if isinstance(content, str) and not self._takes_text:
            return {**message, "content": _parts(content)}
        if isinstance(content, list) and not self._takes_parts:
            if any("text" not in part for part in content):
                raise Refusal(f"{self._origin.name} reads texts only, and the messages have an image.", "messages")
            return {**message, "content": "\n".join(part["text"] for part in content)}
        return message

    @functools.cached_property
    def _takes_text(self) -> bool:
        """Whether a text as content reaches the result; where neither form does, the plain one is used."""
        return self._carries("alpha", "bravo") or not self._carries(_parts("alpha"), _parts("bravo"))

    @functools.cached_property
    def _takes_parts(self) -> bool:
        """Whether a list of parts as content reaches the result, and not as a list that was printed."""
        if not self._takes_text:
            return True
        text = self._attempted("alpha")
        return text is not None and text == self._attempted(_parts("alpha"))

    def _carries(self, first: object, second: object) -> bool:
        rendered = self._attempted(first)
        return rendered is not None and rendered != self._attempted(second)

    def _attempted(self, content: object) -> str | None:
        messages = [{"role": role, "content": content} for role in self._roles]
        try:
            return self._rendered(messages, False, {}, LONGEST_TEXT)
        except Refusal:
            return None

    def _rendered(
        self, messages: Sequence[Message], add_generation_prompt: bool, variables: Mapping[str, Any], longest: int
    ) -> str:
        given = {"tools": None, "documents": None, **self._special_tokens, **variables}
        try:
            pieces = self._compiled.generate(given, messages=messages, add_generation_prompt=add_generation_prompt)
            return "".join(self._within(longest, pieces))
        except (Refusal, MemoryError):
            raise
        except jinja2.TemplateSyntaxError as error:
            place = f"{self._origin.file}, line {error.lineno}"
            raise Refusal(f"{self._origin.name} ({place}) is broken: {_words(error)}.", self._origin.field) from error
        except OSError as error:
            reached = f"{self._origin.name} reaches for a file or a connection, and may have none."
            raise Refusal(reached, self._origin.field) from error
        except Exception as error:
            raise Refusal(f"{self._origin.name} refuses these messages: {_words(error)}.", "messages") from error

    def _within(self, longest: int, pieces: Iterable[str]) -> Iterator[str]:
        """The pieces of a text while it is not too long."""
        length = 0
        for piece in pieces:
            length += len(piece)
            if length > longest:
                raise Refusal(
                    f"{self._origin.name} makes more than {longest} characters of these messages, the most that it may "
                    f"({LONGEST_TEXT}, and twice the bytes of what it was given).",
                    self._origin.field,
                    LIMIT,
                )
            yield piece

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        return environment().from_string(self._origin.source)


def _words(error: Exception) -> str:
    """What an error says, no more of it than anyone reads."""
    words = str(error).rstrip(". ") or type(error).__name__
    return words if len(words) <= LONGEST_REASON else words[:LONGEST_REASON] + " [...]"


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _marked(message: Message) -> Message:
    """The message with the mark at the end of its text."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": content + CONTINUE_HERE}
    if not content:
        raise Refusal(
            "continue_final_message is true, but the last message has no content to continue: leave it out.",
            "continue_final_message",
        )
    *before, last = content
    if "text" not in last:
        raise Refusal(
            "continue_final_message is true, but the last message ends with an image: leave it out.",
            "continue_final_message",
        )
    return {**message, "content": [*before, {**last, "text": last["text"] + CONTINUE_HERE}]}


def _until_mark(text: str) -> str:
    mark = CONTINUE_HERE.strip()
    place = text.rfind(mark)
    if place < 0:
        raise Refusal(
            "continue_final_message is true, but the chat template leaves out the last message: leave it out.",
            "continue_final_message",
        )
    # A template that strips the message has stripped the mark too: then the message's own end is stripped.
    return text[:place] if text.startswith(CONTINUE_HERE, place) else text[:place].rstrip()
