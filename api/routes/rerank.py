"""`POST /v1/rerank`: documents by their relevance to a query, each pair on the way of an embedding."""

from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.protocol.reranking import RerankRequest, rerank_response
from api.protocol.schema import request_body
from api.scoring import TASKS, Group, relevance
from api.state import chosen_model

router = APIRouter()


@router.post("/v1/rerank", summary="Rank documents by a query", openapi_extra=request_body(RerankRequest))
async def rerank(request: Request) -> Response:
    """Jina's and Cohere's reranking: a relevance for each document, the best first."""
    call = RerankRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, *TASKS)
    query, documents = call.texts()
    found = await relevance(request, model, [Group(query, documents)], call.truncation(), priority=call.priority)
    body = rerank_response(
        call.request_id or f"rerank-{request.state.request_id}",
        model.name,
        found.scores,
        documents if call.return_documents else None,
        found.tokens,
        top_n=call.top_n,
        activation=found.activation,
    )
    return Response(body, media_type="application/json")
