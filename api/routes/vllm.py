"""vLLM's own routes: `POST /pooling`, `/classify`, `/score`, and `GET /version`."""

import time
from dataclasses import replace
from importlib.metadata import version

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.body import read_json
from api.classifying import TASKS as LABEL_TASKS
from api.classifying import classified
from api.framing import FRAMED, frame_response, wants_frame
from api.pooling_tasks import Task, check_wanted, pooled_for, usual_task
from api.protocol.common import list_summary
from api.protocol.schema import request_body
from api.protocol.vllm import (
    ClassifyReply,
    ClassifyRequest,
    PoolingCallRequest,
    PoolingReply,
    classify_response,
    pooling_bytes,
    pooling_response,
)
from api.protocol.vllm_score import ScoreReply, ScoreRequest, score_response
from api.reading import sequences_of
from api.scoring import TASKS, Group, relevance
from api.serving import ServedModel
from api.state import chosen_model, timings_of

router = APIRouter()


@router.post(
    "/pooling",
    summary="Pool inputs: embeddings or scores, of inputs or of tokens",
    openapi_extra=request_body(PoolingCallRequest),
    responses={200: {"model": PoolingReply, **FRAMED}},
)
async def pool(request: Request) -> Response:
    """vLLM's pooling, for every model: as numbers, base64, bytes or a frame."""
    created = int(time.time())
    call = PoolingCallRequest.parse(await read_json(request))
    call.check()
    task = call.wanted_task
    tasks = [each for each in Task if task in (None, each)]
    model = chosen_model(request, call.model, *(served for each in tasks for served in each.served_as))
    wanted = call.wanted(task or usual_task(model.spec))
    check_wanted(model, wanted)
    prompt = model.prompt(None) if wanted.task in (Task.EMBED, Task.EMBED_TOKENS) else ""
    sequences = await sequences_of(request, call, model, prompt=prompt)
    results = await pooled_for(request, model, sequences, wanted)
    head = list_summary(call.request_id or f"pool-{request.state.request_id}", created, model.name, sequences.tokens)
    head |= {"task": wanted.task, "pooling": results.pooling, "activation": results.activation}
    if wants_frame(request):
        counts = [len(rows) for rows in results.rows] if wanted.task.per_token else None
        return frame_response(head, np.vstack(results.rows), counts)
    if call.encoding_format in ("bytes", "bytes_only"):
        body, headers = pooling_bytes(head, call, results)
        return Response(body, headers=headers, media_type="application/octet-stream")
    return Response(pooling_response(head, call, results), media_type="application/json")


@router.post(
    "/classify",
    summary="Label inputs",
    openapi_extra=request_body(ClassifyRequest),
    responses={200: {"model": ClassifyReply}},
)
async def classify(request: Request) -> Response:
    """vLLM's classification: the probability of each label, and the most probable one."""
    created = int(time.time())
    call = ClassifyRequest.parse(await read_json(request))
    call.check()
    model = chosen_model(request, call.model, *LABEL_TASKS)
    sequences = await sequences_of(request, call, model)
    found = await classified(request, model, sequences, activate=call.use_activation, priority=call.priority)
    reply_id = call.request_id or f"classify-{request.state.request_id}"
    body = classify_response(list_summary(reply_id, created, model.name, found.tokens), found)
    return Response(body, media_type="application/json")


@router.post(
    "/score",
    summary="Score pairs of texts",
    openapi_extra=request_body(ScoreRequest),
    responses={200: {"model": ScoreReply, **FRAMED}},
)
@router.post(
    "/v1/score",
    summary="Score pairs of texts, by an older path",
    openapi_extra=request_body(ScoreRequest),
    responses={200: {"model": ScoreReply, **FRAMED}},
)
async def score(request: Request) -> Response:
    """vLLM's scores: the relevance by a cross encoder, or the cosine of two embeddings."""
    created = int(time.time())
    call = ScoreRequest.parse(await read_json(request))
    model, fields = chosen_model(request, call.model, *TASKS), call.fields
    groups = await _queries_within(request, model, call.groups(fields), call.max_tokens_per_query)
    found = await relevance(
        request,
        model,
        groups,
        call.truncation(),
        fields=fields,
        activate=call.use_activation,
        priority=call.priority,
    )
    reply_id = call.request_id or f"score-{request.state.request_id}"
    head = {**list_summary(reply_id, created, model.name, found.tokens), "activation": found.activation}
    if wants_frame(request):
        return frame_response(head, found.scores)
    body = score_response(head, found)
    return Response(body, media_type="application/json")


async def _queries_within(request: Request, model: ServedModel, groups: list[Group], limit: int) -> list[Group]:
    """The pairs with their queries cut to so many tokens of their own; 0 cuts none."""
    if not limit:
        return groups
    timings = timings_of(request)
    queries = [group.texts[0] for group in groups]
    with timings.stage("tokenize"):
        texts = await model.aside(sum(map(len, queries)), model.tokenizer.beginnings, queries, limit)
    timings.cut += sum(text != query for text, query in zip(texts, queries, strict=True))
    return [replace(group, query=text) for text, group in zip(texts, groups, strict=True)]


class Version(BaseModel):
    """The reply of `GET /version`."""

    version: str


@router.get("/version", summary="Millpond's version")
async def show_version() -> Version:
    """The version of Millpond that answers."""
    return Version(version=version("millpond"))
