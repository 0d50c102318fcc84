"""`POST /v1/chat/reward`: a conversation's scores, on the same way as an embedding."""

import time

import numpy as np
from fastapi import APIRouter, Request, Response

from api.answering import PoolingCall, pooled
from api.body import read_json
from api.conversing import check_steps, conversation_within
from api.errors import bad_request
from api.protocol.rewards import RewardRequest, reward_response
from api.protocol.schema import request_body
from api.serving import ServedModel
from api.state import chosen_model

router = APIRouter()


@router.post("/v1/chat/reward", summary="Score a conversation", openapi_extra=request_body(RewardRequest))
async def create_reward(request: Request) -> Response:
    """FastDeploy's rewards: raw scores, unless the checkpoint or `--pooler-config` states an activation."""
    created = int(time.time())
    call = RewardRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, "reward")
    check_rows(model)
    _check_dimensions(call.dimensions, model)
    # What is scored stands at the end: of a conversation that is too long the beginning goes.
    conversation = await conversation_within(
        request, call, model, add_special_tokens=call.add_special_tokens, side="left"
    )
    sequences = conversation.sequences
    check_steps(sequences.ids[0], model)
    (scores,) = await pooled(request, PoolingCall(model, sequences, priority=call.priority))
    body = reward_response(
        call.request_id or f"reward-{request.state.request_id}",
        created,
        model.name,
        np.frombuffer(scores, "<f4"),
        sequences.ids[0],
        conversation.text,
        pooling=str(model.spec.pooler.pooling_type),
        activation=str(model.spec.pooler.activation),
        return_token_ids=call.return_token_ids,
    )
    return Response(body, media_type="application/json")


def check_rows(model: ServedModel) -> None:
    """A list of numbers says one thing for each token or step; several for each would be a table."""
    spec = model.spec
    if spec.many_rows and spec.row_width > 1:
        raise bad_request(
            f"{model.name} pools by {spec.pooler.pooling_type} and gives {spec.row_width} numbers for each token; this "
            "route gives one for each: serve it with another pooling_type in --pooler-config.",
            "model",
            "task_not_supported",
        )


def _check_dimensions(dimensions: int | None, model: ServedModel) -> None:
    if dimensions not in (None, model.spec.row_width):
        raise bad_request(
            f"dimensions is {dimensions}; a score of this model has {model.spec.row_width}, and is never cut: leave "
            "dimensions out.",
            "dimensions",
        )
