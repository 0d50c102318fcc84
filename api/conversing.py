"""From the messages of a request to one sequence: rendered by the chat template, then tokenised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from fastapi import Request

from api.documents import IMAGE_ALONE
from api.errors import bad_request
from api.media.references import FetchedImage
from api.picturing import (
    check_images,
    check_options,
    check_written,
    fetched_images,
    placeholders_in,
    with_images,
)
from api.protocol.common import ConversationRequest
from api.protocol.inputs import Tokens, kind_of
from api.protocol.messages import parse_messages
from api.rendering import OWN_VARIABLES, Renderer
from api.sequences import Limit, Sequences, Truncation, ids_within
from api.serving import ServedModel
from api.state import timings_of
from pooling.pooler_config import PoolingType
from pooling.tokenizing import Side, TokenIds
from pooling.vision.processors import ImageOptions


@dataclass(frozen=True)
class TokenizedConversation:
    """A conversation as a sequence.

    Attributes:
        ids: int32 [n].
        text: what was tokenised; None where the caller sent token ids.
        images: those that stand among the tokens.
        image_options: how they are processed.
    """

    ids: TokenIds
    text: str | None
    images: Sequence[FetchedImage] = ()
    image_options: ImageOptions = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """A conversation brought within the model's limit.

    Attributes:
        sequences: one.
        text: what was tokenised, uncut; None where the caller sent token ids.
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
    texts = None if found.text is None else [found.text]
    if found.images:  # never cut, and known to be within the limit
        sequences = Sequences("messages", [found.ids], images=[found.images], image_options=found.image_options)
    else:
        sequences = ids_within(model, "messages", [found.ids], truncation, texts)
    return Conversation(sequences, found.text)


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
        limit: of a text with far more tokens, not all come. With images, too many are refused in any case.

    Raises:
        ApiError: 400 that names the field that is wrong, or tells in the template's words what it refuses.
    """
    parsed = parse_messages(call.messages, model.tokenizer.vocab_size)
    _check(call, model.renderer)
    image_options = check_options(model, call.mm_processor_kwargs)
    if isinstance(parsed, Tokens):
        return TokenizedConversation(np.asarray(parsed.values[0], dtype=np.int32), None)
    check_images(model, parsed, call.messages)
    check_written(model, call.chat_template_kwargs, "chat_template_kwargs")
    if parsed.images and model.spec.placeholder_id is None:
        return TokenizedConversation(IMAGE_ALONE, None, await fetched_images(request, parsed.images), image_options)
    renderer = model.renderer
    if call.chat_template is None:
        check_template(model)
    timings, tokenizer = timings_of(request), model.tokenizer
    images: Sequence[FetchedImage] = ()
    if parsed.images:
        with timings.stage("images"):
            images = await fetched_images(request, parsed.images)
    with timings.stage("tokenize"):
        text = await renderer.render(
            parsed.messages,
            add_generation_prompt=call.add_generation_prompt,
            continue_final_message=call.continue_final_message,
            variables=call.chat_template_kwargs,
            template=call.chat_template,
        )
        if images:
            text = placeholders_in(text, model)
        timings.characters += len(text)

        def encoded() -> TokenIds:
            # Of a text with images all is needed, to find their places in.
            shortened = tokenizer.shortened(text, limit.tokens, limit.side) if limit and not images else text
            (ids,) = tokenizer.encode_rendered([shortened], add_special_tokens)
            return ids

        ids = await model.aside(len(text), encoded)
        if images:
            ids = with_images(model, ids, images, image_options, limit or Limit.of(Truncation(), model))
        return TokenizedConversation(ids, text, images, image_options)


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
