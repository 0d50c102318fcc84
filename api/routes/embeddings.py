"""`POST /v1/embeddings`, the way of a synchronous call: read, check, tokenise, queue, wait, reply."""

import time

import numpy as np
from fastapi import APIRouter, Request, Response

from api.answering import vectors_of
from api.body import read_json
from api.conversing import tokenized_conversation
from api.errors import bad_request
from api.protocol.inputs import Texts, parse_inputs
from api.protocol.openai import EmbeddingRequest, embedding_response
from api.protocol.schema import request_body
from api.sequences import Limit, Sequences, sequences_within
from api.serving import ServedModel
from api.state import state_of
from scheduler.metrics import STAGE_SECONDS

router = APIRouter()


@router.post(
    "/v1/embeddings",
    summary="Embed texts, token ids or a conversation",
    openapi_extra=request_body(EmbeddingRequest),
)
async def create_embeddings(request: Request) -> Response:
    """OpenAI's embeddings, for texts and for token ids; and FastDeploy's, for the messages of a conversation."""
    state = state_of(request)
    model, created = state.model, int(time.time())
    call = EmbeddingRequest.parse(await read_json(request, state.options.max_request_bytes))
    model.check_name(call.model)
    model.check_task("embed")
    _check_rows(model)
    _check_dimensions(call.dimensions, model)
    with STAGE_SECONDS.labels(model.name, "tokenize").time():
        sequences = await _sequences(call, model)
    with STAGE_SECONDS.labels(model.name, "wait").time():
        vectors = await vectors_of(
            request,
            state.callers,
            model,
            state.new_request_id(),
            sequences,
            dimensions=call.dimensions,
            normalize=call.normalize,
            seconds=state.options.request_timeout,
        )
    with STAGE_SECONDS.labels(model.name, "reply").time():
        reply_id = call.request_id or f"embd-{request.state.request_id}"
        body = embedding_response(reply_id, created, model.name, vectors, call.encoding_format, sequences.tokens)
    return Response(body, headers=sequences.headers, media_type="application/json")


async def _sequences(call: EmbeddingRequest, model: ServedModel) -> Sequences:
    """The inputs' token ids, cut where the caller allows it."""
    limit = Limit.of(call.truncate_prompt_tokens, model)
    if call.is_conversation:
        if call.prompt_name is not None:
            raise bad_request("prompt_name is for texts in input, not for messages: leave it out.", "prompt_name")
        special = bool(call.add_special_tokens)
        conversation = await tokenized_conversation(call, call.messages, model, add_special_tokens=special)
        return sequences_within(limit, "messages", [conversation.ids], model)
    inputs = parse_inputs(call.input, model.tokenizer.vocab_size)
    if isinstance(inputs, Texts):
        prompt = model.prompt(call.prompt_name)
        texts = [prompt + text for text in inputs.values] if prompt else inputs.values
        ids = await model.tokenize(texts, call.add_special_tokens is not False)
    elif call.prompt_name is not None:
        raise bad_request(
            "prompt_name puts a text before texts, and input is token ids: leave it out, or send texts.", "prompt_name"
        )
    else:
        ids = [np.asarray(each, dtype=np.int32) for each in inputs.values]
    return sequences_within(limit, "input", ids, model)


def _check_rows(model: ServedModel) -> None:
    if model.spec.many_rows:
        kind = model.spec.pooler.pooling_type
        raise bad_request(
            f"{model.name} pools by {kind}, which gives a vector for each token; this route gives one for each input: "
            "serve it with another pooling_type in --pooler-config.",
            "model",
            "task_not_supported",
        )


def _check_dimensions(dimensions: int | None, model: ServedModel) -> None:
    full, supported = model.spec.embedding_dimensions, model.spec.supported_dimensions
    if dimensions is None or dimensions in supported:
        return
    if dimensions > full:
        raise bad_request(f"dimensions is {dimensions}, over this model's {full}.", "dimensions")
    if len(supported) > 1:
        raise bad_request(f"dimensions is {dimensions}; this model allows {list(supported)}.", "dimensions")
    raise bad_request(
        f"dimensions is {dimensions}; this model was not trained to be shortened and gives {full} only.", "dimensions"
    )
