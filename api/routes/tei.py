"""The routes of text-embeddings-inference; `/tokenize` and `/decode` are with the tokens."""

from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request, Response

from api.body import read_json
from api.classifying import TASKS as LABEL_TASKS
from api.classifying import classified
from api.embedding import check_embeds, cosines, embedded, stacked, token_vectors
from api.errors import ApiError
from api.framing import FRAMED, frame_response, wants_frame
from api.mixing import texts_and_ids_within, texts_and_pairs_within
from api.protocol.reranking import RerankError, RerankReply, RerankRequest, rerank_error
from api.protocol.schema import either_body, request_body
from api.protocol.tei import (
    EmbedAllRequest,
    EmbedRequest,
    PredictRequest,
    SimilarityRequest,
    TextsRequest,
)
from api.protocol.tei_replies import Info, Prediction, Rank, info_of, predictions_of
from api.protocol.tokens import TeiError
from api.routes.rerank import rerank_documents
from api.scoring import TASKS as COMPARING_TASKS
from api.scoring import Group, relevance
from api.sequences import PairFields, Sequences, texts_within
from api.serving import ServedModel
from api.state import chosen_model, named_model, timings_of
from pooling.activations import activated
from pooling.pooler_config import Activation

router = APIRouter()

Embeddings = list[list[float]]
TokenEmbeddings = list[list[list[float]]]
Predictions = list[Prediction] | list[list[Prediction]]


@router.post(
    "/embed",
    summary="Embed inputs",
    openapi_extra=request_body(EmbedRequest),
    responses={200: {"model": Embeddings, **FRAMED}},
)
async def embed(request: Request) -> Response:
    """A vector for each input, also where there is one only."""
    return await _embed(request, await read_json(request))


@router.post(
    "/embed_all",
    summary="Embed each token of inputs",
    openapi_extra=request_body(EmbedAllRequest),
    responses={200: {"model": TokenEmbeddings, **FRAMED}},
)
async def embed_all(request: Request) -> Response:
    """A vector for each token of each input, special tokens included; of any length, never normalized."""
    call = EmbedAllRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, "embed")
    sequences = await _inputs(request, call, model)
    vectors = await token_vectors(request, model, sequences, normalize=False)
    if wants_frame(request):
        return frame_response({}, np.vstack(vectors), [len(each) for each in vectors])
    return _reply(vectors)


@router.post(
    "/embed_sparse",
    summary="Not served: sparse embeddings",
    openapi_extra=request_body(EmbedAllRequest),
    responses={200: {"model": list[list[Any]], "description": "Never: this route says that there are none."}},
)
async def embed_sparse(request: Request) -> Response:
    """A 424 that says so, as there is none but for models of another kind."""
    call = EmbedAllRequest.parse(await read_json(request))
    model = named_model(request, call.model)
    raise ApiError(
        400,
        f"{model.name} is served for {' and '.join(model.spec.tasks)}, and no model here gives sparse vectors: ask "
        "/embed for dense ones.",
        param="model",
        code="task_not_supported",
    )


@router.post(
    "/rerank",
    summary="Rank texts, or documents, by a query",
    openapi_extra=either_body(
        {"text-embeddings-inference": TextsRequest, "Jina, Cohere, vLLM, Infinity": RerankRequest}
    ),
    responses={200: {"model": list[Rank] | RerankReply, **FRAMED}, "4XX": {"model": TeiError | RerankError}},
)
async def rerank(request: Request) -> Response:
    """With `texts` a ranking in the form of text-embeddings-inference, with `documents` in that of `/v1/rerank`."""
    body = await read_json(request)
    if isinstance(body, dict) and "documents" in body and "texts" not in body:
        request.state.error_form = rerank_error
        return await rerank_documents(request, body)
    return await _rank(request, body)


@router.post(
    "/predict",
    summary="Label texts, or pairs of texts",
    openapi_extra=request_body(PredictRequest),
    responses={200: {"model": Predictions}},
)
async def predict(request: Request) -> Response:
    """The labels of each text with their probabilities, the most probable first."""
    return await _predict(request, await read_json(request))


@router.post(
    "/similarity",
    summary="Compare sentences with one",
    openapi_extra=request_body(SimilarityRequest),
    responses={200: {"model": list[float]}},
)
async def similarity(request: Request) -> Response:
    """The cosine of each sentence's vector with the source's."""
    return await _compare(request, await read_json(request))


_ANY_BODY = either_body(
    {"embed": EmbedRequest, "rerank": TextsRequest, "predict": PredictRequest, "similarity": SimilarityRequest}
)
_ANY_REPLIES: dict[int | str, dict[str, Any]] = {200: {"model": Embeddings | list[Rank] | Predictions | list[float]}}


@router.post("/", summary="Do what the model is for", openapi_extra=_ANY_BODY, responses=_ANY_REPLIES)
@router.post(
    "/invocations",
    summary="Do what the model is for, as SageMaker asks",
    openapi_extra=_ANY_BODY,
    responses=_ANY_REPLIES,
)
async def any_task(request: Request) -> Response:
    """What InferenceClient and SageMaker ask: the body tells the task, and between labels and vectors the model."""
    body = await read_json(request)
    if isinstance(body, dict) and "texts" in body:
        return await _rank(request, body)
    if isinstance(body, dict) and isinstance(body.get("inputs"), dict):
        return await _compare(request, body)
    name = body.get("model") if isinstance(body, dict) else None
    model = named_model(request, name if isinstance(name, str) else None)
    return await (_embed if "embed" in model.spec.tasks else _predict)(request, body)


@router.get("/info", summary="Describe a served model", responses={200: {"model": Info}})
async def info(
    request: Request, model: Annotated[str | None, Query(description="Which; absent: the first.")] = None
) -> Info:
    """The model, and the limits of a call."""
    return info_of(named_model(request, model))


async def _embed(request: Request, body: object) -> Response:
    call = EmbedRequest.parse(body)
    model = chosen_model(request, call.model, "embed")
    check_embeds(model, call.dimensions)
    sequences = await _inputs(request, call, model)
    found = await embedded(request, model, sequences, dimensions=call.dimensions, normalize=call.normalize)
    vectors = stacked(found)
    return frame_response({}, vectors) if wants_frame(request) else _reply(vectors)


async def _inputs(request: Request, call: EmbedAllRequest, model: ServedModel) -> Sequences:
    inputs, prompt = call.read(model.tokenizer.vocab_size), model.prompt(call.prompt_name)
    return await texts_and_ids_within(timings_of(request), model, inputs, call.truncation, prompt=prompt)


async def _rank(request: Request, body: object) -> Response:
    call = TextsRequest.parse(body)
    model = chosen_model(request, call.model, *COMPARING_TASKS)
    query, texts = call.read()
    fields = PairFields("query", "texts")
    activate = not call.raw_scores
    found = await relevance(request, model, [Group(query, texts)], call.truncation, fields=fields, activate=activate)
    order = np.argsort(-found.scores, kind="stable")
    return _reply(
        [
            {"index": index, **({"text": texts[index]} if call.return_text else {}), "score": found.scores[index]}
            for index in order.tolist()
        ]
    )


async def _predict(request: Request, body: object) -> Response:
    call = PredictRequest.parse(body)
    model = chosen_model(request, call.model, *LABEL_TASKS)
    inputs, pipeline = call.read(), call.pipeline
    function = pipeline.function_to_apply if pipeline else None
    sequences = await texts_and_pairs_within(timings_of(request), model, inputs, call.truncation)
    activate = function is None and not call.raw_scores
    found = await classified(request, model, sequences, activate=activate)
    scores = activated(found.scores, Activation(function)) if function else found.scores
    rows = predictions_of(found.labels, scores, pipeline.top_k if pipeline else None)
    return _reply(rows[0] if call.is_single and pipeline is None else rows)


async def _compare(request: Request, body: object) -> Response:
    call = SimilarityRequest.parse(body)
    model = chosen_model(request, call.model, "embed")
    check_embeds(model)
    (source, sentences), options, timings = call.read(), call.options, timings_of(request)
    prompt, truncation = model.prompt(options.prompt_name), options.truncation
    one = await texts_within(timings, model, "source_sentence", [source], truncation, prompt=prompt)
    others = await texts_within(timings, model, "sentences", sentences, truncation, prompt=prompt)
    both = Sequences("inputs", [*one.ids, *others.ids], cut=one.cut + others.cut)
    vectors = stacked(await embedded(request, model, both))
    return _reply(cosines(vectors[:1], vectors[1:]))


def _reply(value: object) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
