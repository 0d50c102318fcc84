"""From the messages of a request to one sequence: rendered by the chat template, then tokenised."""

from dataclasses import dataclass

import numpy as np

from api.errors import bad_request
from api.protocol.common import ConversationRequest
from api.protocol.inputs import Tokens, kind_of
from api.protocol.messages import parse_messages
from api.rendering import OWN_VARIABLES, Renderer
from api.serving import ServedModel
from pooling.tokenizing import TokenIds


@dataclass(frozen=True)
class TokenizedConversation:
    """A conversation as a sequence.

    Attributes:
        ids: int32 [n].
        text: what was tokenised; None where the caller sent token ids.
    """

    ids: TokenIds
    text: str | None


async def tokenized_conversation(
    call: ConversationRequest, messages: object, model: ServedModel, *, add_special_tokens: bool
) -> TokenizedConversation:
    """The messages as tokens.

    Templates write special tokens themselves: `add_special_tokens` puts none before a text that begins with them.

    Raises:
        ApiError: 400 that names the field that is wrong, or tells in the template's words what it refuses.
    """
    parsed = parse_messages(messages, model.tokenizer.vocab_size)
    _check(call, model.renderer)
    if isinstance(parsed, Tokens):
        return TokenizedConversation(np.asarray(parsed.values[0], dtype=np.int32), None)
    renderer = model.renderer
    if call.chat_template is None and not renderer.has_template:
        raise bad_request(
            f"{model.name} has no chat template, so it is not said how messages become text: send token ids as "
            "messages, or put a chat_template.jinja into the checkpoint.",
            "messages",
            "no_chat_template",
        )
    text = await renderer.render(
        parsed.messages,
        add_generation_prompt=call.add_generation_prompt,
        continue_final_message=call.continue_final_message,
        variables=call.chat_template_kwargs,
        template=call.chat_template,
    )
    ids = await model.aside(len(text), model.tokenizer.encode_rendered, text, add_special_tokens)
    return TokenizedConversation(ids, text)


def _check(call: ConversationRequest, renderer: Renderer) -> None:
    if call.add_generation_prompt and call.continue_final_message:
        raise bad_request(
            "add_generation_prompt and continue_final_message are both true: the last message is either continued or "
            "followed by another, so leave one out.",
            "continue_final_message",
        )
    if call.chat_template is not None:
        _check_template(call.chat_template, renderer)
    for name in OWN_VARIABLES:
        if name in (call.chat_template_kwargs or {}):
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
