"""`POST /v1/rows`: up to 2,048 rows in one call, each with a result or an error of its own."""

import time
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from api.answering import PoolingCall, lane_of, pooled_each
from api.body import read_json
from api.embedding import check_embeds
from api.errors import ApiError, bad_request
from api.protocol.common import list_summary
from api.protocol.rows import RowsReply, RowsRequest, RowTask, error_entry, rows_response
from api.protocol.schema import request_body
from api.replaying import LANE_HEADER
from api.routes.reward import check_rows
from api.rows import ROW_CHARACTERS, Entry, Prepared, Row, pooled_entry, prepared_rows, rendered_entry
from api.scoring import TASKS
from api.sequences import Sequences
from api.serving import ServedModel
from api.state import caller_of, chosen_model, state_of
from scheduler.keys import Lane
from scheduler.messages import Result

router = APIRouter()

QUEUE_DEPTH = "Millpond-Queue-Depth"

MODEL_TASKS = {RowTask.SCORE: ("reward", "score"), RowTask.EMBED: ("embed",), RowTask.RERANK: TASKS}
"""What a model must be served for, one of them."""


@router.post(
    "/v1/rows",
    summary="Score, embed or rerank many rows",
    openapi_extra=request_body(RowsRequest),
    responses={200: {"model": RowsReply}},
)
async def create_rows(request: Request) -> Response:
    """The bulk commands' way: the numbers are those of /v1/chat/reward, /v1/embeddings and /v1/rerank for each row.

    So rewards are raw unless the checkpoint or `--pooler-config` states an activation, and scores of a query with
    documents are what /v1/rerank says without being asked: those of a cross encoder that states no activation go
    through a sigmoid, those of an embedding model are cosines. `activation` in the reply names it.
    """
    created = int(time.time())
    call = RowsRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, *MODEL_TASKS[call.task])
    lane = lane_of(request.headers.get(LANE_HEADER, Lane.INTERACTIVE))
    # Where all rows are bad, or nothing is computed, nobody else looks.
    caller_of(request).check_lane(lane)
    _check(call, model)
    rows = await prepared_rows(request, call, model)
    entries = _rendered(rows) if call.render_only else await _pooled(request, call, model, rows)
    tokens = sum(row.sequences.tokens for row in rows if isinstance(row, Row))
    activation = next((row.activation for row in rows if isinstance(row, Row) and row.activation), None)
    summary = {
        **list_summary(call.request_id or f"rows-{request.state.request_id}", created, model.name, tokens),
        "object": "rows",
        "task": call.task,
        "pooling": str(model.spec.pooler.pooling_type),
        "activation": activation or str(model.spec.pooler.activation),
    }
    body = await model.aside(len(entries) * ROW_CHARACTERS, rows_response, summary, entries)
    depth = await state_of(request).depths.of(model.keys, lane)
    headers = {} if depth is None else {QUEUE_DEPTH: str(depth)}
    return Response(body, headers=headers, media_type="application/json")


def _check(call: RowsRequest, model: ServedModel) -> None:
    if call.task is RowTask.EMBED:
        check_embeds(model, call.dimensions)
    elif call.task is RowTask.SCORE:
        check_rows(model)
    if call.task is not RowTask.EMBED:
        for name in ("dimensions", "normalize"):
            if getattr(call, name) is not None:
                raise bad_request(f"{name} is for embeddings, and task is {call.task}: leave it out.", name)
    if call.task is RowTask.RERANK:
        call.check_cuts_ends()


def _rendered(rows: Sequence[Prepared]) -> list[Entry]:
    """What would be computed: texts and their numbers of tokens."""
    return [error_entry(row) if isinstance(row, ApiError) else rendered_entry(row) for row in rows]


async def _pooled(request: Request, call: RowsRequest, model: ServedModel, rows: Sequence[Prepared]) -> list[Entry]:
    """What the queue makes of the rows that can be computed, in one request of it."""
    good = [row for row in rows if isinstance(row, Row)]
    results: list[Result] = []
    if good:
        sequences = Sequences(
            "rows",
            [ids for row in good for ids in row.sequences.ids],
            [second for row in good for second in row.sequences.second_from or [None] * len(row.sequences.ids)],
            cut=sum(row.sequences.cut for row in good),
            images=[images for row in good for images in row.sequences.images or [()] * len(row.sequences.ids)],
            image_options=next((row.sequences.image_options for row in good if row.sequences.images), {}),
        )
        results = await pooled_each(
            request,
            PoolingCall(
                model,
                sequences,
                dimensions=call.dimensions,
                normalize=call.normalize,
                activation=good[0].pooling_activation,
                priority=call.priority,
            ),
        )
    entries, begin = [], 0
    for row in rows:
        if isinstance(row, ApiError):
            entries.append(error_entry(row))
            continue
        end = begin + len(row.sequences.ids)
        entries.append(pooled_entry(row, results[begin:end]))
        begin = end
    return entries
