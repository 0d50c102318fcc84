"""FastDeploy's `POST /v1/chat/reward`: a conversation, and the scores that it gets."""

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import ConfigDict, Field, StrictBool, StrictInt
from pydantic.config import JsonDict

from api.protocol.common import ConversationRequest, Messages

EXAMPLE: JsonDict = {
    "model": "default",
    "messages": [
        {"role": "user", "content": "What does a millpond store?"},
        {"role": "assistant", "content": "Water."},
    ],
}


class RewardRequest(ConversationRequest):
    """`POST /v1/chat/reward`."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    messages: Messages = Field(..., description="The conversation to score, or its token ids.")
    add_special_tokens: StrictBool = Field(
        False, description="Whether the tokenizer frames the text; templates write special tokens themselves."
    )
    dimensions: StrictInt | None = Field(None, ge=1, description="As many numbers as a score has, or null.")
    normalize: StrictBool | None = Field(None, description="Taken and not used: scores are never normalized.")
    return_token_ids: StrictBool = Field(
        False, description="Whether the reply has prompt_token_ids and prompt_tokens, the rendered text."
    )


def reward_response(
    reply_id: str,
    created: int,
    model: str,
    score: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int32],
    text: str | None,
    *,
    pooling: str,
    activation: str,
    return_token_ids: bool,
) -> bytes:
    """The reply as JSON bytes.

    Args:
        score: the numbers, float32 [n].
        ids: the tokens that were scored, int32.
        text: what they were made of; None where the caller sent ids.
        pooling, activation: what was applied, by name.
        return_token_ids: whether the tokens come back.
    """
    data: dict[str, Any] = {"index": 0, "object": "reward", "score": score}
    if return_token_ids:
        data |= {"prompt_token_ids": ids, "prompt_tokens": text}
    body = {
        "id": reply_id,
        "object": "object",
        "created": created,
        "model": model,
        "data": [data],
        "pooling": pooling,
        "activation": activation,
        "usage": {"prompt_tokens": len(ids), "total_tokens": len(ids)},
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
