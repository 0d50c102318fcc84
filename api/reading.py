"""The inputs of a request as sequences, in both forms that FastDeploy's and vLLM's routes take: input, and messages."""

from fastapi import Request

from api.conversing import conversation_within
from api.documents import documents_within
from api.picturing import check_options
from api.protocol.common import InputRequest
from api.protocol.inputs import Texts, parse_inputs
from api.sequences import Sequences, ids_within, texts_within
from api.serving import ServedModel
from api.state import timings_of


async def sequences_of(request: Request, call: InputRequest, model: ServedModel, *, prompt: str = "") -> Sequences:
    """The token ids of a request's inputs, cut where the caller allows it.

    Args:
        prompt: stands before each text; not before token ids or messages.

    Raises:
        ApiError: 400 that names what is wrong with an input.
    """
    if call.is_conversation:
        special = bool(call.add_special_tokens)
        return (await conversation_within(request, call, model, add_special_tokens=special)).sequences
    truncation = call.truncation()
    if call.holds_documents:
        return await documents_within(
            request,
            model,
            "input",
            call.documents(),
            truncation,
            options=call.mm_processor_kwargs,
            prompt=prompt,
            add_special_tokens=call.add_special_tokens is not False,
        )
    check_options(model, call.mm_processor_kwargs)
    inputs = parse_inputs(call.input, model.tokenizer.vocab_size)
    if not isinstance(inputs, Texts):
        return ids_within(model, "input", inputs.values, truncation)
    special = call.add_special_tokens is not False
    return await texts_within(
        timings_of(request), model, "input", inputs.values, truncation, add_special_tokens=special, prompt=prompt
    )
