"""From the messages of a request to one sequence: rendered by the chat template, then tokenised."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from fastapi import Request

from api.errors import bad_request
from api.images import image_options
from api.imaging import Pictured, Unexpanded, check_written, pictured, sequences_with
from api.protocol import messages as wire
from api.protocol.common import ConversationRequest
from api.protocol.inputs import Tokens, kind_of
from api.protocol.messages import parse_messages
from api.rendering import OWN_VARIABLES, Renderer
from api.sequences import Limit, Sequences, Truncation, ids_within
from api.serving import ServedModel
from api.state import timings_of
from pooling.pooler_config import PoolingType
from pooling.tokenizing import Side, TokenIds


@dataclass(frozen=True)
class TokenizedConversation:
    """A conversation as a sequence.

    Attributes:
        pictured: its token ids and its images.
        text: what was tokenised; None where the caller sent token ids, or an image alone.
    """

    pictured: Pictured
    text: str | None

    @property
    def ids(self) -> TokenIds:
        """Its token ids, int32 [n]."""
        return self.pictured.ids


@dataclass(frozen=True)
class Conversation:
    """A conversation brought within the model's limit.

    Attributes:
        sequences: one.
        text: what was tokenised, uncut, with one place for an image; None where the caller sent none.
    """

    sequences: Sequences
    text: str | None


async def conversation_within(
    request: Request, call: ConversationRequest, model: ServedModel, *, add_special_tokens: bool, side: Side = "right"
) -> Conversation:
    """The messages as one sequence that the model takes.

    Args:
        side: where it is cut when it is too long, the request allows it and names no side.

    Raises:
        ApiError: 400 as of `tokenized_conversation`, or it is too long and may not be cut.
    """
    truncation = call.truncation(side)
    limit = Limit.of(truncation, model)
    found = await tokenized_conversation(request, call, model, add_special_tokens=add_special_tokens, limit=limit)
    if found.pictured.images:
        options = image_options(model.images, call.mm_processor_kwargs)
        return Conversation(sequences_with("messages", [found.pictured], options), found.text)
    texts = None if found.text is None else [found.text]
    return Conversation(ids_within(model, "messages", [found.ids], truncation, texts), found.text)


async def tokenized_conversation(
    request: Request,
    call: ConversationRequest,
    model: ServedModel,
    *,
    add_special_tokens: bool,
    limit: Limit | None = None,
) -> TokenizedConversation:
    """The messages as tokens.

    Templates write special tokens themselves: `add_special_tokens` puts none before a text that begins with them.

    Args:
        limit: of a text with far more tokens, not all come. With images, more are refused in any case.

    Raises:
        ApiError: 400 that names the field that is wrong, or tells in the template's words what it refuses.
    """
    parsed = parse_messages(call.messages, model.tokenizer.vocab_size, takes_images=model.images is not None)
    _check(call, model.renderer)
    options = image_options(model.images, call.mm_processor_kwargs)
    if isinstance(parsed, Tokens):
        return TokenizedConversation(Pictured(np.asarray(parsed.values[0], dtype=np.int32)), None)
    most = limit or Limit.of(Truncation(), model)
    if parsed.images and model.images and model.images.placeholder_id is None:
        check_image_alone(parsed)
        alone = Unexpanded("messages", np.zeros(0, dtype=np.int32), parsed.images)
        (image,) = await pictured(request, model, [alone], options, most, "")
        return TokenizedConversation(image, None)
    renderer = model.renderer
    if call.chat_template is None:
        check_template(model)
    check_written(model.images, call.messages, "messages")
    check_written(model.images, call.chat_template_kwargs, "chat_template_kwargs")
    timings, tokenizer = timings_of(request), model.tokenizer
    with timings.stage("tokenize"):
        text = await renderer.render(
            parsed.messages,
            add_generation_prompt=call.add_generation_prompt,
            continue_final_message=call.continue_final_message,
            variables=call.chat_template_kwargs,
            template=call.chat_template,
        )
        if model.images:
            text = model.images.with_placeholders(text)
        timings.characters += len(text)

        def encoded() -> tuple[TokenIds, bool]:
            within = most if parsed.images else limit
            shortened = tokenizer.shortened(text, within.tokens, within.side) if within else text
            (ids,) = tokenizer.encode_rendered([shortened], add_special_tokens)
            return ids, len(shortened) == len(text)

        ids, whole = await model.aside(len(text), encoded)
    if not parsed.images:
        return TokenizedConversation(Pictured(ids), text)
    unexpanded = Unexpanded("messages", ids, parsed.images, whole)
    template = renderer.described(call.chat_template)
    (found,) = await pictured(request, model, [unexpanded], options, most, template)
    return TokenizedConversation(found, text)


def check_image_alone(parsed: wire.Conversation) -> None:
    """Refuses a conversation that is more than one image, for a model that embeds an image by itself."""
    if len(parsed.images) != 1 or len(parsed.messages) != 1 or len(parsed.messages[0]["content"]) != 1:
        raise bad_request(
            "This model embeds an image by itself, and a text by itself: send one message with one image and nothing "
            "else, or a text as input.",
            "messages",
            "unsupported_content",
        )


def _check(call: ConversationRequest, renderer: Renderer) -> None:
    if call.add_generation_prompt and call.continue_final_message:
        raise bad_request(
            "add_generation_prompt and continue_final_message are both true: the last message is either continued or "
            "followed by another, so leave one out.",
            "continue_final_message",
        )
    if call.chat_template is not None:
        _check_template(call.chat_template, renderer)
    check_variables(call.chat_template_kwargs)


def check_variables(variables: Mapping[str, object] | None) -> None:
    """Raises a 400 for `chat_template_kwargs` that would set what has a field of its own."""
    for name in OWN_VARIABLES:
        if name in (variables or {}):
            raise bad_request(
                f"chat_template_kwargs has {name}, which it cannot set: leave it out there.", "chat_template_kwargs"
            )


def _check_template(template: object, renderer: Renderer) -> None:
    if not renderer.takes_templates:
        raise bad_request(
            "chat_template is not taken from requests, as a template is code: leave it out or null, and the "
            "checkpoint's own is used (--trust-request-chat-template takes it).",
            "chat_template",
            "not_allowed",
        )
    if not isinstance(template, str):
        raise bad_request(
            f"chat_template is {kind_of(template)}; it must be a string.", "chat_template", "invalid_type"
        )


def check_template(model: ServedModel) -> None:
    """Refuses messages where it is not said how they become text."""
    if not model.renderer.has_template:
        raise bad_request(
            f"{model.name} has no chat template, so it is not said how messages become text: send token ids as "
            "messages, or put a chat_template.jinja into the checkpoint.",
            "messages",
            "no_chat_template",
        )


def check_steps(ids: TokenIds, model: ServedModel) -> None:
    """Refuses a conversation without a step: it would get an empty list of scores."""
    pooler = model.spec.pooler
    if pooler.pooling_type is PoolingType.STEP and pooler.step_tag_id not in ids:
        tag = model.tokenizer.token(pooler.step_tag_id) if pooler.step_tag_id is not None else None
        raise bad_request(
            f"There is no step to score: this model scores each token {pooler.step_tag_id} ({tag!r}, its step_tag_id), "
            "and there is none in the messages: put one behind each step.",
            "messages",
            "no_steps",
        )
