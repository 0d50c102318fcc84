"""`POST /v1/embeddings`, the way of a synchronous call: read, check, tokenise, queue, wait, reply."""

import time
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request, Response

from api.answering import vectors_of
from api.body import read_json
from api.errors import bad_request
from api.protocol.inputs import Texts, parse_inputs
from api.protocol.openai import EmbeddingRequest, embedding_response
from api.serving import ServedModel, TokenIds
from api.state import state_of
from scheduler.metrics import STAGE_SECONDS

router = APIRouter()


@router.post(
    "/v1/embeddings",
    summary="Embed texts or token ids",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": EmbeddingRequest.model_json_schema()}},
        }
    },
)
async def create_embeddings(request: Request) -> Response:
    """OpenAI's embeddings, for texts and for token ids."""
    state = state_of(request)
    model, created = state.model, int(time.time())
    call = EmbeddingRequest.parse(await read_json(request, state.options.max_request_bytes))
    model.check_name(call.model)
    model.check_task("embed")
    _check_dimensions(call.dimensions, model)
    with STAGE_SECONDS.labels(model.name, "tokenize").time():
        sequences, cut = await _sequences(call, model)
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
        tokens = sum(map(len, sequences))
        reply_id = f"embd-{request.state.request_id}"
        body = embedding_response(reply_id, created, model.name, vectors, call.encoding_format, tokens)
    headers = {"Millpond-Truncated-Inputs": str(cut)} if cut else None
    return Response(body, headers=headers, media_type="application/json")


async def _sequences(call: EmbeddingRequest, model: ServedModel) -> tuple[Sequence[TokenIds], int]:
    """The inputs' token ids, cut where the caller allows it; and how many were cut."""
    limit, may_cut = _limit(call.truncate_prompt_tokens, model)
    inputs = parse_inputs(call.input, model.tokenizer.vocab_size)
    if isinstance(inputs, Texts):
        sequences = await model.tokenize(inputs.values, call.add_special_tokens)
    else:
        sequences = [np.asarray(ids, dtype=np.int32) for ids in inputs.values]
    cut = 0
    for index, ids in enumerate(sequences):
        if not len(ids):
            raise bad_request(f"input[{index}] has no tokens: leave it out.", "input", "empty")
        if len(ids) <= limit:
            continue
        if not may_cut:
            raise bad_request(
                f"input[{index}] has {len(ids)} tokens, over this model's {limit} (--max-model-len): shorten it, "
                'or send "truncate_prompt_tokens": -1 to have it cut.',
                "input",
                "context_length_exceeded",
            )
        sequences[index] = model.tokenizer.truncate(ids, limit)
        cut += 1
    return sequences, cut


def _limit(truncate: int | None, model: ServedModel) -> tuple[int, bool]:
    """The most tokens an input may have, and whether longer ones are cut."""
    longest, field = model.spec.max_model_len, "truncate_prompt_tokens"
    if truncate is None or truncate == -1:
        return longest, truncate == -1
    fewest = model.special_tokens + 1
    if not fewest <= truncate <= longest:
        raise bad_request(
            f"{field} is {truncate}; it must be -1, or from {fewest} (the model's special tokens and one more) to "
            f"{longest} (--max-model-len).",
            field,
        )
    return truncate, True


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
