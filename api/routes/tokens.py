"""`POST /tokenize`, which vLLM and text-embeddings-inference share, vLLM's `/detokenize` and the other's `/decode`."""

from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.conversing import tokenized_conversation
from api.protocol.schema import request_body
from api.protocol.tokens import (
    TOKENIZE_EXAMPLES,
    DecodeRequest,
    DetokenizeReply,
    DetokenizeRequest,
    InputsRequest,
    TextToken,
    TokenizeReply,
    TokenizeRequest,
    tei_error,
    tokens_response,
)
from api.serving import ServedModel
from api.state import named_model, timings_of
from pooling.tokenizing import TokenIds

router = APIRouter()
tei_router = APIRouter()

_BOTH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [TokenizeRequest.model_json_schema(), InputsRequest.model_json_schema()]},
                "examples": TOKENIZE_EXAMPLES,
            }
        },
    }
}


@router.post(
    "/tokenize",
    summary="Tokenize texts",
    openapi_extra=_BOTH,
    responses={200: {"model": TokenizeReply | list[list[TextToken]]}},
)
async def tokenize(request: Request) -> Response:
    """The token ids of a text or a conversation, as vLLM gives them; of `inputs`, as text-embeddings-inference does."""
    body = await read_json(request)
    if isinstance(body, dict) and "inputs" in body:
        request.state.error_form = tei_error
        return await tokenize_inputs(request, body)
    call = TokenizeRequest.parse(body)
    call.check()
    model = named_model(request, call.model)
    ids = await _ids(request, call, model)
    found = {
        "count": len(ids),
        "max_model_len": model.spec.max_model_len,
        "tokens": ids,
        "token_strs": await _names(model, ids) if call.return_token_strs else None,
    }
    return Response(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


async def tokenize_inputs(request: Request, body: object) -> Response:
    """The tokens of each text with their places in it, as text-embeddings-inference gives them."""
    call = InputsRequest.parse(body)
    model = named_model(request, call.model)
    prompt, timings = model.prompt(call.prompt_name), timings_of(request)
    texts = [prompt + text for text in call.texts]
    characters = sum(map(len, texts))
    timings.characters += characters
    with timings.stage("tokenize"):
        found = await model.aside(characters, model.tokenizer.tokens, texts, call.add_special_tokens)
    timings.tokens += sum(map(len, found))
    return Response(tokens_response(found), media_type="application/json")


@router.post(
    "/detokenize",
    summary="Make a text of token ids",
    openapi_extra=request_body(DetokenizeRequest),
    responses={200: {"model": DetokenizeReply}},
)
async def detokenize(request: Request) -> Response:
    """vLLM's detokenizing; special tokens stay in the text."""
    call = DetokenizeRequest.parse(await read_json(request))
    model = named_model(request, call.model)
    ids = call.ids(model.tokenizer.vocab_size)
    with timings_of(request).stage("tokenize"):
        text = await model.aside(len(ids), model.tokenizer.decode, ids, False)
    return Response(orjson.dumps({"prompt": text}), media_type="application/json")


@tei_router.post(
    "/decode",
    summary="Make texts of token ids",
    openapi_extra=request_body(DecodeRequest),
    responses={200: {"model": list[str]}},
)
async def decode(request: Request) -> Response:
    """The texts of token ids, as text-embeddings-inference gives them."""
    call = DecodeRequest.parse(await read_json(request))
    model = named_model(request, call.model)
    lists = call.lists(model.tokenizer.vocab_size)

    def decoded() -> list[str]:
        return [model.tokenizer.decode(ids, call.skip_special_tokens) for ids in lists]

    with timings_of(request).stage("tokenize"):
        texts = await model.aside(sum(map(len, lists)), decoded)
    return Response(orjson.dumps(texts), media_type="application/json")


async def _names(model: ServedModel, ids: TokenIds) -> list[str | None]:
    """How the vocabulary writes each token."""
    return await model.aside(len(ids), lambda: [model.tokenizer.token(each) for each in ids.tolist()])


async def _ids(request: Request, call: TokenizeRequest, model: ServedModel) -> TokenIds:
    timings = timings_of(request)
    if call.messages is not None:
        # Alone among the routes, this one ends with the assistant's beginning where nothing is said.
        if call.add_generation_prompt is None:
            call = call.model_copy(update={"add_generation_prompt": not call.continue_final_message})
        special = bool(call.add_special_tokens)
        ids = (await tokenized_conversation(request, call, model, add_special_tokens=special)).ids
    else:
        with timings.stage("tokenize"):
            (ids,) = await model.tokenize([call.text], call.add_special_tokens is not False)
        timings.characters += len(call.text)
    timings.tokens += len(ids)
    return np.asarray(ids, dtype=np.int32)
