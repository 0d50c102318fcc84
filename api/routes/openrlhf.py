"""OpenRLHF's `POST /get_reward`, on the same way as an embedding."""

import numpy as np
from fastapi import APIRouter, Request, Response

from api.answering import PoolingCall, pooled
from api.body import read_json
from api.errors import bad_request
from api.protocol.openrlhf import GetRewardReply, GetRewardRequest, get_reward_response
from api.protocol.schema import request_body
from api.sequences import texts_within
from api.serving import ServedModel
from api.state import chosen_model, timings_of
from pooling.pooler_config import Activation

router = APIRouter()


@router.post(
    "/get_reward",
    summary="Score the texts of a training step",
    openapi_extra=request_body(GetRewardRequest),
    responses={200: {"model": GetRewardReply}},
)
async def get_reward(request: Request) -> Response:
    """OpenRLHF's remote reward model: a raw score for each text, whose special tokens stand in it already."""
    call = GetRewardRequest.parse(await read_json(request))
    model = chosen_model(request, call.model, "reward")
    _check_rows(model)
    sequences = await texts_within(
        timings_of(request), model, "query", call.texts, call.truncation, add_special_tokens=False
    )
    rows = await pooled(request, PoolingCall(model, sequences, activation=Activation.NONE))
    rewards = np.frombuffer(b"".join(rows), "<f4")
    truncated = np.zeros_like(rewards)
    truncated[list(sequences.cut_places)] = 1
    return Response(get_reward_response(rewards, truncated), media_type="application/json")


def _check_rows(model: ServedModel) -> None:
    """A training step wants one number for each text."""
    spec = model.spec
    if not spec.many_rows and spec.row_width == 1:
        return
    pooling = spec.pooler.pooling_type
    given = f"pools by {pooling}, which gives several scores" if spec.many_rows else f"gives {spec.row_width} scores"
    raise bad_request(
        f"{model.name} {given} for a text. This route gives one number for each query, and what to make of several is "
        "for the trainer to say: take them from /v1/chat/reward or /pooling, or serve another reward model.",
        "model",
        "task_not_supported",
    )
