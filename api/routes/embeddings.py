"""`POST /v1/embeddings`, the way of a synchronous call: read, check, tokenise, queue, wait, reply."""

import time

from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.conversing import tokenized_conversation
from api.embedding import check_embeds, embedded
from api.errors import bad_request
from api.protocol.inputs import Texts, parse_inputs
from api.protocol.openai import EmbeddingRequest, embedding_response
from api.protocol.schema import request_body
from api.sequences import Sequences, ids_within, texts_within
from api.serving import ServedModel
from api.state import chosen_model, timings_of

router = APIRouter()


@router.post(
    "/v1/embeddings",
    summary="Embed texts, token ids or a conversation",
    openapi_extra=request_body(EmbeddingRequest),
)
async def create_embeddings(request: Request) -> Response:
    """OpenAI's embeddings, for texts and for token ids; and FastDeploy's, for the messages of a conversation."""
    created = int(time.time())
    call = EmbeddingRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, "embed")
    check_embeds(model, call.dimensions)
    sequences = await _sequences(request, call, model)
    vectors = await embedded(
        request, model, sequences, dimensions=call.dimensions, normalize=call.normalize, priority=call.priority
    )
    reply_id = call.request_id or f"embd-{request.state.request_id}"
    body = embedding_response(reply_id, created, model.name, vectors, call.encoding_format, sequences.tokens)
    return Response(body, media_type="application/json")


async def _sequences(request: Request, call: EmbeddingRequest, model: ServedModel) -> Sequences:
    """The inputs' token ids, cut where the caller allows it."""
    timings = timings_of(request)
    if call.is_conversation:
        if call.prompt_name is not None:
            raise bad_request("prompt_name is for texts in input, not for messages: leave it out.", "prompt_name")
        special = bool(call.add_special_tokens)
        with timings.stage("tokenize"):
            conversation = await tokenized_conversation(call, call.messages, model, add_special_tokens=special)
        timings.characters += len(conversation.text or "")
        return ids_within(model, "messages", [conversation.ids], call.truncation())
    inputs = parse_inputs(call.input, model.tokenizer.vocab_size)
    if isinstance(inputs, Texts):
        return await texts_within(
            timings,
            model,
            "input",
            inputs.values,
            call.truncation(),
            add_special_tokens=call.add_special_tokens is not False,
            prompt=model.prompt(call.prompt_name),
        )
    if call.prompt_name is not None:
        raise bad_request(
            "prompt_name puts a text before texts, and input is token ids: leave it out, or send texts.", "prompt_name"
        )
    return ids_within(model, "input", inputs.values, call.truncation())
