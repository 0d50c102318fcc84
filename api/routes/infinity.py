"""Infinity's paths, which have no `/v1` before them; `/rerank` is with those of text-embeddings-inference."""

from fastapi import APIRouter

from api.framing import FRAMED
from api.protocol.openai import EmbeddingReply, EmbeddingRequest, ModelList
from api.protocol.schema import request_body
from api.routes.embeddings import create_embeddings
from api.routes.models import list_models

router = APIRouter()

router.add_api_route(
    "/embeddings",
    create_embeddings,
    methods=["POST"],
    summary="Embed texts, token ids or a conversation, as /v1/embeddings does",
    openapi_extra=request_body(EmbeddingRequest),
    responses={200: {"model": EmbeddingReply, **FRAMED}},
)
router.add_api_route(
    "/models", list_models, methods=["GET"], summary="List the served models", response_model=ModelList
)
