"""From messages to the text that the checkpoint's chat template makes of them, as transformers renders it.

transformers' own `render_jinja_template` is not used: importing it takes longer than all the rest of the api, 0.33 s.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from api.errors import ApiError, bad_request
from api.protocol.messages import Message
from pooling.chat_template import ChatTemplate

CONTINUE_HERE = "CONTINUE_FINAL_MESSAGE_TAG "
"""Marks the end of the message to be continued, as in transformers: what a template puts behind it is cut off."""

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's reasoning is sent; templates read the first one, some the second."""

OWN_VARIABLES = ("messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
"""What `chat_template_kwargs` cannot set: they have fields of their own, or none."""


class Renderer:
    """A chat template, compiled; safe to use from several threads at once."""

    def __init__(self, template: ChatTemplate, probe: Callable[[object], Sequence[Message]] | None = None) -> None:
        """A renderer of one checkpoint's template.

        Args:
            probe: makes the conversation by which it is found out in which form the template reads content; by default
                one message of a user.
        """
        self._template = template
        self._probe = probe or (lambda content: [{"role": "user", "content": content}])

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The messages as one text.

        Args:
            variables: what else the template may look at (`chat_template_kwargs`).

        Raises:
            ApiError: 400 with the template's own words, when it refuses the messages or fails on them.
        """
        chosen = [self._fitted(message) for message in messages]
        if continue_final_message:
            chosen[-1] = _marked(chosen[-1])
        text = self._rendered(chosen, add_generation_prompt, variables or {})
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
        try:
            return self._rendered(self._probe(content), False, {})
        except ApiError:
            return None

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool, variables: Mapping[str, Any]) -> str:
        given = {"tools": None, "documents": None, **self._template.special_tokens, **variables}
        try:
            return self._compiled.render(given, messages=messages, add_generation_prompt=add_generation_prompt)
        except jinja2.TemplateSyntaxError as error:
            place = f"{self._template.path.name}, line {error.lineno}"
            raise bad_request(f"The chat template of this model ({place}) is broken: {error}.", "messages") from error
        except Exception as error:
            reason = str(error).rstrip(". ") or type(error).__name__
            raise bad_request(f"The chat template refuses these messages: {reason}.", "messages") from error

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        return environment().from_string(self._template.source)


@functools.cache
def environment() -> jinja2.Environment:
    """Jinja with transformers' settings: what a template can do there it can do here, and no more."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], autoescape=False
    )
    made.filters["tojson"] = _to_json
    made.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, "namespace": _Namespace}
    return made


class _Generation(Extension):
    """`{% generation %}`, which marks what an assistant said for training: here it says nothing."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """Jinja's namespace without names that Python calls by itself: setting one leads out of the sandbox."""

    def __init__(*args: Any, **attributes: Any) -> None:
        for name in dict(*args[1:], **attributes):
            _check_name(name)
        jinja2.utils.Namespace.__init__(*args, **attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"the template stores {name!r}; names must not begin with _")


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which belongs in no prompt."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.now(UTC).astimezone().strftime(form)


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _marked(message: Message) -> Message:
    """The message with the mark at the end of its text."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": content + CONTINUE_HERE}
    if not content:
        raise bad_request(
            "continue_final_message is true, but the last message has no content to continue: leave it out.",
            "continue_final_message",
        )
    *before, last = content
    return {**message, "content": [*before, {**last, "text": last["text"] + CONTINUE_HERE}]}


def _until_mark(text: str) -> str:
    mark = CONTINUE_HERE.strip()
    place = text.rfind(mark)
    if place < 0:
        raise bad_request(
            "continue_final_message is true, but the chat template leaves out the last message: leave it out.",
            "continue_final_message",
        )
    # A template that strips the message has stripped the mark too: then the message's own end is stripped.
    return text[:place] if text.startswith(CONTINUE_HERE, place) else text[:place].rstrip()
