"""From messages to text by a chat template, in processes that a template can neither hold up nor break out of.

Templates that callers bring, and the checkpoint's own with variables that callers bring, can be made to run for long.
They have children of their own, so that who brings nothing waits for nobody who does.
"""

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from api.errors import ApiError, bad_request, overloaded
from api.protocol.messages import Message
from api.sandbox import job as wire
from api.sandbox.children import (
    START_SECONDS,
    BusyError,
    Children,
    EndedError,
    TooSlowError,
    child_command,
    child_environment,
)
from api.sandbox.job import Job, Origin, OutOfMemoryError, Refusal
from pooling.chat_template import ChatTemplate

OWN_VARIABLES = ("messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
"""What `chat_template_kwargs` cannot set: they have fields of their own, or none."""

LONGEST_TEMPLATE = 100_000
"""Characters of a caller's template; those of checkpoints have up to 20,000."""

CHILDREN = 2
"""Of each kind: one renders 5,000 short conversations a second, the other is for when it has a long one."""

CALLERS_NICENESS = 5
"""What callers bring is computed when nothing else wants the core, or almost so."""

CALLERS_PATIENCE = 0.4
"""Seconds that what callers bring waits for a child. With the time to render that is an answer within a second."""

PATIENCE = 10.0
"""Seconds that the rest waits: no job in its queue can be long, so only a great many can take that time."""

TEMPLATE_FIELD = "chat_template"

USER = ("user",)
"""The message by which it is found out in which form a template for chats reads content."""


class Sandbox:
    """The processes in which one api process renders; started as they are needed."""

    def __init__(self) -> None:
        self._trusted = Children(CHILDREN, 0, PATIENCE)
        self._callers = Children(CHILDREN, CALLERS_NICENESS, CALLERS_PATIENCE)

    async def start(self) -> None:
        """Starts one process of each kind, so that the first callers do not wait for it."""
        await self._trusted.start()
        await self._callers.start()

    async def close(self) -> None:
        """Ends the processes."""
        await self._trusted.close()
        await self._callers.close()

    async def render(self, job: Job) -> list[str]:
        """A text for each conversation.

        Raises:
            ApiError: 400 with the template's words or the limit that it ran into, 503 when too many others wait.
        """
        data = _encoded(job)
        children = self._callers if job.variables or job.origin.field == TEMPLATE_FIELD else self._trusted
        try:
            reply = await children.exchange(data, _longest_reply(data, job), len(job.conversations))
        except TooSlowError as error:
            raise _stopped(job, f"takes longer than the {wire.SECONDS:g} seconds that it may") from error
        except EndedError as error:
            raise _stopped(job, "ended the process that rendered it") from error
        except BusyError as error:
            raise overloaded(
                "Too many chat templates are being rendered: no process for it was free in time. Try again.", 1
            ) from error
        return _texts(reply, job)


class Renderer:
    """A checkpoint's chat template, and those that callers may bring instead."""

    def __init__(
        self,
        sandbox: Sandbox,
        template: ChatTemplate | None,
        special_tokens: Mapping[str, str],
        *,
        takes_templates: bool = False,
    ) -> None:
        """A renderer for one model.

        Args:
            template: the checkpoint's, if it has one.
            special_tokens: their texts by name, which every template may look at.
            takes_templates: whether callers may bring templates.
        """
        self.has_template = template is not None
        self.takes_templates = takes_templates
        self._sandbox = sandbox
        self._own = origin_of(template) if template else None
        self._special_tokens = special_tokens

    async def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        template: str | None = None,
    ) -> str:
        """The messages as one text; see `render_many`."""
        (text,) = await self.render_many(
            [messages],
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=variables,
            template=template,
        )
        return text

    async def render_many(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        template: str | None = None,
    ) -> list[str]:
        """Conversations as one text each, on one way to a process and back.

        Args:
            variables: what else the template may look at (`chat_template_kwargs`).
            template: the caller's own, for which `takes_templates` must be true; else the checkpoint's, which there
                must be.

        Raises:
            ApiError: as `Sandbox.render`.
        """
        origin = self._own if template is None else _callers_origin(template)
        assert origin
        job = Job(
            origin,
            self._special_tokens,
            USER,
            conversations,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=variables or {},
        )
        return await self._sandbox.render(job)


def origin_of(template: ChatTemplate) -> Origin:
    """A checkpoint's template, as messages speak of it."""
    return Origin(template.source, "The chat template of this model", template.path.name, "messages")


def rendered_once(job: Job) -> list[str]:
    """A text for each conversation, from a process for this job alone: waits for it, so not for the event loop.

    Raises:
        ApiError: 400 with the template's words or the limit that it ran into.
    """
    data = _encoded(job)
    seconds = START_SECONDS + wire.SECONDS * len(job.conversations)
    try:
        output = subprocess.run(
            child_command(0), input=wire.framed(data), capture_output=True, env=child_environment(), timeout=seconds
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise _stopped(job, f"takes longer than the {wire.SECONDS:g} seconds that it may") from error
    # The first message says that the process is ready.
    reply = output[2 * wire.HEADER.size :]
    if not reply:
        raise _stopped(job, "ended the process that rendered it")
    return _texts(reply, job)


def _callers_origin(template: str) -> Origin:
    if len(template) > LONGEST_TEMPLATE:
        raise bad_request(
            f"{TEMPLATE_FIELD} has {len(template)} characters, over the limit of {LONGEST_TEMPLATE}: shorten it.",
            TEMPLATE_FIELD,
            wire.LIMIT,
        )
    return Origin(template, "The chat template of this request", TEMPLATE_FIELD, TEMPLATE_FIELD)


def _encoded(job: Job) -> bytes:
    try:
        return job.encoded()
    except ValueError as error:
        raise bad_request(wire.NESTED_TOO_DEEP, "messages") from error


def _longest_reply(data: bytes, job: Job) -> int:
    """The most bytes that texts of the most characters may have, with some for where they begin and end."""
    return (4 * wire.longest_text(data) + 16) * len(job.conversations) + 1024


def _texts(reply: bytes, job: Job) -> list[str]:
    try:
        return wire.decoded_reply(reply)
    except Refusal as refusal:
        param = _blamed(job) if refusal.code == wire.LIMIT else refusal.param
        raise bad_request(refusal.message, param, refusal.code) from refusal
    except OutOfMemoryError as error:
        raise _stopped(job, f"takes more memory than the {wire.MEMORY_BYTES >> 20} MiB that it may") from error


def _stopped(job: Job, what: str) -> ApiError:
    return bad_request(f"{job.origin.name} {what}, for these messages: it was stopped.", _blamed(job), wire.LIMIT)


def _blamed(job: Job) -> str:
    """The field of the request that a limit is about."""
    if job.origin.field == TEMPLATE_FIELD or not job.variables:
        return job.origin.field
    return "chat_template_kwargs"
