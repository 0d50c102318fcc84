"""`POST /v1/rerank`: documents by their relevance to a query, each pair on the way of an embedding."""

import numpy as np
from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.errors import bad_request
from api.framing import FRAMED, frame_response, wants_frame
from api.protocol.reranking import Ranking, RerankReply, RerankRequest, rerank_response
from api.protocol.schema import request_body
from api.scoring import TASKS, Group, relevance
from api.state import chosen_model

router = APIRouter()


@router.post(
    "/v1/rerank",
    summary="Rank documents by a query",
    openapi_extra=request_body(RerankRequest),
    responses={200: {"model": RerankReply, **FRAMED}},
)
async def rerank(request: Request) -> Response:
    """Jina's, vLLM's and Cohere's (version 1) reranking: a relevance for each document, the best first."""
    return await rerank_documents(request, await read_json(request))


async def rerank_documents(request: Request, body: object) -> Response:
    """The answer to a body with `query` and `documents`, as every route gives it that takes one."""
    call, framed = RerankRequest.parse(body), wants_frame(request)
    if framed and call.return_documents:
        raise bad_request(
            "return_documents is for JSON, and a frame has numbers only: leave it out.", "return_documents"
        )
    ranking = await ranked(request, call)
    reply_id = call.request_id or f"rerank-{request.state.request_id}"
    if framed:
        header = {**ranking.summary(reply_id), "index": ranking.order.tolist()}
        return frame_response(header, ranking.scores)
    return Response(rerank_response(reply_id, ranking), media_type="application/json")


async def ranked(request: Request, call: RerankRequest) -> Ranking:
    """The call's documents by their relevance."""
    model = chosen_model(request, call.model, *TASKS)
    query, documents = call.compared()
    found = await relevance(
        request,
        model,
        [Group(query, documents)],
        call.truncation(),
        activate=call.activate,
        priority=call.priority,
    )
    order = np.argsort(-found.scores, kind="stable")[: call.top_n]
    return Ranking(
        model.name, order, found.scores[order], documents, call.return_documents, found.activation, found.tokens
    )
