"""`POST /v1/embeddings`, the way of a synchronous call: read, check, tokenise, queue, wait, reply."""

import time
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.embedding import check_embeds, check_types, stacked
from api.errors import bad_request
from api.framing import FRAMED, frame_response, wants_frame
from api.long_documents import Pieces, documents_in_pieces, embedded_in_pieces
from api.picturing import check_options
from api.prompting import prompt_for
from api.protocol.common import list_summary
from api.protocol.inputs import Texts, parse_inputs
from api.protocol.openai import (
    EmbeddingReply,
    EmbeddingRequest,
    embedding_response,
)
from api.protocol.schema import request_body
from api.quantizing import quantized
from api.reading import sequences_of
from api.serving import ServedModel
from api.state import chosen_model

router = APIRouter()

PROMPT_FIELDS = ("prompt_name", "task")
"""What chooses the text that stands before texts."""


@router.post(
    "/v1/embeddings",
    summary="Embed texts, token ids or a conversation",
    openapi_extra=request_body(EmbeddingRequest),
    responses={200: {"model": EmbeddingReply, **FRAMED}},
)
async def create_embeddings(request: Request) -> Response:
    """OpenAI's embeddings, for texts and for token ids; and FastDeploy's, for the messages of a conversation."""
    created = int(time.time())
    call = EmbeddingRequest.parse(await read_json(request))
    call.check_jina()
    model, kind = chosen_model(request, call.model, "embed"), call.form
    check_embeds(model, call.dimensions)
    check_types(model, [kind], call.dimensions, "encoding_format")
    pieces = await _pieces(request, call, model)
    vectors = await embedded_in_pieces(
        request, model, pieces, dimensions=call.dimensions, normalize=call.normalizes, priority=call.priority
    )
    reply_id = call.request_id or f"embd-{request.state.request_id}"
    summary = list_summary(reply_id, created, model.name, pieces.sequences.tokens)
    if wants_frame(request):
        return frame_response({**summary, "encoding_format": kind}, quantized(stacked(vectors), kind))
    return Response(embedding_response(summary, vectors, kind), media_type="application/json")


async def _pieces(request: Request, call: EmbeddingRequest, model: ServedModel) -> Pieces:
    """The inputs as sequences; several for a text that is longer than the model takes, where that is asked for."""
    documents = call.documents() if call.holds_documents else []
    if not documents and not call.holds_texts:
        _check_texts_only(call)
        return Pieces.whole(await sequences_of(request, call, model))
    has_images = any(each.images for each in documents)
    if has_images and call.max_embed_len is not None:
        raise bad_request(
            "max_embed_len is for texts, and there are images in input: leave it out, or send texts.", "max_embed_len"
        )
    prompt = model.prompt(call.prompt_name) if call.task is None else prompt_for(model, call.task, "task")
    if has_images or not call.wants_pieces(model.spec.pooler.enable_chunked_processing):
        return Pieces.whole(await sequences_of(request, call, model, prompt=prompt))
    check_options(model, call.mm_processor_kwargs)
    if documents:
        texts: Sequence[str] = [each.text for each in documents]
    else:
        inputs = parse_inputs(call.input, model.tokenizer.vocab_size)
        assert isinstance(inputs, Texts)
        texts = inputs.values
    return await documents_in_pieces(request, model, "input", texts, call.max_embed_len, prompt)


def _check_texts_only(call: EmbeddingRequest) -> None:
    """Refuses what concerns texts where there are messages or token ids."""
    for field in (*PROMPT_FIELDS, "max_embed_len"):
        if getattr(call, field) is not None:
            given = "not for messages" if call.is_conversation else "and input is token ids"
            raise bad_request(f"{field} is for texts, {given}: leave it out, or send texts.", field)
