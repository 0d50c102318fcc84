"""`POST /v1/rerank`: documents by their relevance to a query, each pair on the way of an embedding."""

import numpy as np
from fastapi import APIRouter, Request, Response

from api.answering import vectors_of
from api.body import read_json
from api.errors import ApiError, bad_request
from api.protocol.reranking import RerankRequest, rerank_response
from api.protocol.schema import request_body
from api.sequences import Limit, Sequences, pairs_within
from api.serving import ServedModel
from api.state import state_of
from pooling.activations import Scores, activated
from pooling.pooler_config import Activation
from scheduler.metrics import STAGE_SECONDS

router = APIRouter()


@router.post("/v1/rerank", summary="Rank documents by a query", openapi_extra=request_body(RerankRequest))
async def rerank(request: Request) -> Response:
    """Jina's and Cohere's reranking: a relevance for each document, the best first."""
    state = state_of(request)
    model = state.model
    call = RerankRequest.parse(await read_json(request, state.options.max_request_bytes))
    model.check_name(call.model)
    model.check_task("score")
    query, documents = call.texts()
    with STAGE_SECONDS.labels(model.name, "tokenize").time():
        _check_size(query, documents, state.options.max_request_bytes)
        sequences = await _sequences(query, documents, Limit.of(call.truncate_prompt_tokens, model), model)
    with STAGE_SECONDS.labels(model.name, "wait").time():
        scores = await vectors_of(
            request,
            state.callers,
            model,
            state.new_request_id(),
            sequences,
            seconds=state.options.request_timeout,
        )
    with STAGE_SECONDS.labels(model.name, "reply").time():
        relevance, activation = _relevance(np.frombuffer(b"".join(scores), "<f4"), model)
        body = rerank_response(
            call.request_id or f"rerank-{request.state.request_id}",
            model.name,
            relevance,
            documents if call.return_documents else None,
            sequences.tokens,
            top_n=call.top_n,
            activation=str(activation),
        )
    return Response(body, headers=sequences.headers, media_type="application/json")


def _check_size(query: str, documents: list[str], limit: int) -> None:
    """Refuses what the query makes too large by standing before every document."""
    characters = len(query) * len(documents) + sum(map(len, documents))
    if characters > limit:
        raise ApiError(
            413,
            f"The query with each of {len(documents)} documents makes {characters} characters, over the limit of "
            f"{limit}: send fewer documents at once, or raise --max-request-bytes.",
            param="documents",
            code="request_too_large",
        )


async def _sequences(query: str, documents: list[str], limit: Limit, model: ServedModel) -> Sequences:
    """The query with each document as token ids, cut where the caller allows it."""
    if model.pairing is None:
        raise bad_request(
            f"{model.name} does not say how a query and a document become one text: put a chat_template.jinja that "
            "places the roles query and document into the checkpoint.",
            "model",
            "task_not_supported",
        )
    # The query stands in every sequence: one that fits in none is found out before it is repeated.
    (alone,) = await model.tokenize([query], add_special_tokens=False)
    if len(alone) >= limit.tokens:
        raise bad_request(
            f"query has {len(alone)} tokens, which leaves no room for a document within {limit.tokens} "
            "(--max-model-len, or truncate_prompt_tokens): shorten it.",
            "query",
            "context_length_exceeded",
        )
    characters = len(query) * len(documents) + sum(map(len, documents))
    encode = await model.pairing.prepared(query, documents)
    return pairs_within(limit, await model.aside(characters, encode))


def _relevance(scores: Scores, model: ServedModel) -> tuple[Scores, Activation]:
    """What the worker's scores say of relevance, and by which activation.

    Where nobody states one, a sigmoid makes a relevance of a raw score, as in Sentence Transformers' CrossEncoder.
    """
    if model.spec.activation_stated:
        return scores, model.spec.pooler.activation
    return activated(scores, Activation.SIGMOID), Activation.SIGMOID
