"""The inputs of a request as sequences, in both forms that FastDeploy's and vLLM's routes take: input, and messages."""

from fastapi import Request

from api.conversing import conversation_within
from api.documents import documents_within
from api.picturing import check_options
from api.protocol.common import InputRequest
from api.protocol.documents import Documents, parse_input
from api.protocol.inputs import Inputs, Texts
from api.sequences import Sequences, ids_within, texts_within
from api.serving import ServedModel
from api.state import timings_of


def inputs_of(call: InputRequest, model: ServedModel) -> Inputs | Documents:
    """What `input` has, of a request without messages; raises a 400 that names what is wrong with one."""
    return parse_input(call.input, model.tokenizer.vocab_size)


async def sequences_of(
    request: Request,
    call: InputRequest,
    model: ServedModel,
    *,
    prompt: str = "",
    inputs: Inputs | Documents | None = None,
) -> Sequences:
    """The token ids of a request's inputs, cut where the caller allows it.

    Args:
        prompt: stands before each text; not before token ids, messages, or what has an image.
        inputs: what `inputs_of` has read, if it was asked before.

    Raises:
        ApiError: 400 that names what is wrong with an input.
    """
    if call.is_conversation:
        special = bool(call.add_special_tokens)
        return (await conversation_within(request, call, model, add_special_tokens=special)).sequences
    truncation = call.truncation()
    inputs = inputs or inputs_of(call, model)
    special = call.add_special_tokens is not False
    if isinstance(inputs, Documents):
        return await documents_within(
            request,
            model,
            "input",
            inputs.values,
            truncation,
            add_special_tokens=special,
            prompt=prompt,
            options=call.mm_processor_kwargs,
        )
    check_options(model, call.mm_processor_kwargs)
    if not isinstance(inputs, Texts):
        return ids_within(model, "input", inputs.values, truncation)
    return await texts_within(
        timings_of(request), model, "input", inputs.values, truncation, add_special_tokens=special, prompt=prompt
    )
