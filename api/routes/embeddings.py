"""`POST /v1/embeddings`, the way of a synchronous call: read, check, tokenise, queue, wait, reply."""

import time

from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.conversing import tokenized_conversation
from api.embedding import check_embeds, check_types, stacked
from api.errors import bad_request
from api.framing import FRAMED, frame_response, wants_frame
from api.long_documents import Pieces, documents_in_pieces, embedded_in_pieces
from api.prompting import prompt_for
from api.protocol.inputs import Texts, parse_inputs
from api.protocol.openai import (
    EmbeddingReply,
    EmbeddingRequest,
    embedding_response,
    embedding_summary,
)
from api.protocol.schema import request_body
from api.quantizing import quantized
from api.sequences import Sequences, ids_within, texts_within
from api.serving import ServedModel
from api.state import chosen_model, timings_of

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
    summary = embedding_summary(reply_id, created, model.name, pieces.sequences.tokens)
    if wants_frame(request):
        return frame_response({**summary, "encoding_format": kind}, quantized(stacked(vectors), kind))
    return Response(embedding_response(summary, vectors, kind), media_type="application/json")


async def _pieces(request: Request, call: EmbeddingRequest, model: ServedModel) -> Pieces:
    """The inputs as sequences; several for a text that is longer than the model takes, where that is asked for."""
    if call.is_conversation:
        return Pieces.whole(await _conversation(request, call, model))
    inputs = parse_inputs(call.input, model.tokenizer.vocab_size)
    prompt = model.prompt(call.prompt_name) if call.task is None else prompt_for(model, call.task, "task")
    if not isinstance(inputs, Texts):
        for field in PROMPT_FIELDS:
            if getattr(call, field) is not None:
                raise bad_request(
                    f"{field} puts a text before texts, and input is token ids: leave it out, or send texts.", field
                )
        return Pieces.whole(ids_within(model, "input", inputs.values, call.truncation()))
    if call.wants_pieces(model.spec.pooler.enable_chunked_processing):
        return await documents_in_pieces(request, model, "input", inputs.values, call.max_embed_len, prompt)
    special = call.add_special_tokens is not False
    return Pieces.whole(
        await texts_within(
            timings_of(request),
            model,
            "input",
            inputs.values,
            call.truncation(),
            add_special_tokens=special,
            prompt=prompt,
        )
    )


async def _conversation(request: Request, call: EmbeddingRequest, model: ServedModel) -> Sequences:
    for field in (*PROMPT_FIELDS, "max_embed_len"):
        if getattr(call, field) is not None:
            raise bad_request(f"{field} is for texts in input, not for messages: leave it out.", field)
    timings = timings_of(request)
    with timings.stage("tokenize"):
        conversation = await tokenized_conversation(
            call, call.messages, model, add_special_tokens=bool(call.add_special_tokens)
        )
    timings.characters += len(conversation.text or "")
    return ids_within(model, "messages", [conversation.ids], call.truncation())
