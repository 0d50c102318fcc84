"""Cohere's `POST /v2/embed` and `POST /v2/rerank`."""

from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.documents import documents_within
from api.embedding import check_embeds, check_types, embedded, stacked
from api.errors import bad_request
from api.prompting import prompt_for
from api.protocol.cohere import EmbedReply, EmbedRequest, embed_response
from api.protocol.reranking import CohereRerankReply, CohereRerankRequest, cohere_rerank_response
from api.protocol.schema import request_body
from api.routes.rerank import ranked
from api.sequences import Sequences
from api.state import chosen_model, timings_of

router = APIRouter()


@router.post(
    "/v2/embed",
    summary="Embed texts, as Cohere does",
    openapi_extra=request_body(EmbedRequest),
    responses={200: {"model": EmbedReply}},
)
async def embed(request: Request) -> Response:
    """Cohere's embeddings, in one form or several: float, base64, int8, uint8, binary, ubinary."""
    call = EmbedRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, "embed")
    check_embeds(model, call.output_dimension, "output_dimension")
    check_types(model, call.types, call.output_dimension, "embedding_types")
    documents, timings = call.read(), timings_of(request)
    # "image" says what the inputs are, and is no prompt's name.
    prompt = prompt_for(model, call.input_type if call.input_type != "image" else None, "input_type")
    truncation = call.truncation(model.spec.max_model_len)
    sequences = await documents_within(request, model, call.source, documents, truncation, prompt=prompt)
    if call.truncate == "NONE" and call.max_tokens is not None:
        _check_lengths(sequences, call.max_tokens)
    vectors = await embedded(request, model, sequences, dimensions=call.output_dimension, priority=call.priority)
    body = embed_response(
        f"embd-{request.state.request_id}",
        stacked(vectors),
        call.types,
        [each.text for each in documents] if call.source == "texts" else None,
        sequences.tokens,
        timings.cut,
    )
    return Response(body, media_type="application/json")


@router.post(
    "/v2/rerank",
    summary="Rank documents by a query, as Cohere does",
    openapi_extra=request_body(CohereRerankRequest),
    responses={200: {"model": CohereRerankReply}},
)
async def rerank(request: Request) -> Response:
    """Cohere's reranking, version 2: long documents are cut, and the reply says how many were."""
    call = CohereRerankRequest.parse(await read_json(request))
    ranking = await ranked(request, call)
    body = cohere_rerank_response(f"rerank-{request.state.request_id}", ranking, timings_of(request).cut)
    return Response(body, media_type="application/json")


def _check_lengths(sequences: Sequences, most: int) -> None:
    for index, ids in enumerate(sequences.ids):
        if len(ids) > most:
            raise bad_request(
                f"{sequences.place(index)} has {len(ids)} tokens, over your max_tokens of {most}: shorten it, or send "
                '"truncate": "END" to have it cut.',
                sequences.field,
                "context_length_exceeded",
            )
