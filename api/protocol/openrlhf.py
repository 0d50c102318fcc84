"""OpenRLHF's `POST /get_reward`: the texts of a training step, and a reward for each."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr
from pydantic.config import JsonDict

from api.protocol.common import WireRequest
from api.protocol.inputs import MAX_INPUTS, nonempty_texts
from api.sequences import MODEL_MAXIMUM, Truncation
from pooling.tokenizing import Side

EXAMPLE: JsonDict = {
    "query": ["user: What does a millpond store? assistant: Water.", "user: And the river? assistant: No."]
}


class GetRewardRequest(WireRequest):
    """`POST /get_reward`; `prompts` and `labels`, which OpenRLHF sends along, are taken and not used."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    query: Any = Field(
        ...,
        description="Whole conversations, a text each, in the words of the model's chat template, with its special "
        f"tokens; at most {MAX_INPUTS}.",
        json_schema_extra={
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": MAX_INPUTS,
        },
    )
    prompts: Any = Field(None, description="Taken and not used: query has them already.")
    labels: Any = Field(None, description="Taken and not used: they are for rewards by rule.")
    model: StrictStr | None = Field(
        None, description="Millpond's own, where several models are served; absent: the first."
    )
    truncate: StrictBool = Field(True, description="Millpond's own: false refuses queries that are too long.")
    truncation_side: Literal["left", "right"] = Field(
        "right", description="Millpond's own: where queries that are too long are cut; OpenRLHF cuts their end."
    )

    @property
    def texts(self) -> list[str]:
        """The queries; raises a 400 that says which of them is wrong and why."""
        return nonempty_texts(self.query, "query")

    @property
    def truncation(self) -> Truncation:
        """What becomes of queries that are too long."""
        side: Side = self.truncation_side
        return Truncation(MODEL_MAXIMUM if self.truncate else None, side, "truncate", '"truncate": true')


class GetRewardReply(BaseModel):
    """What `POST /get_reward` answers: a raw score for each query, twice, and for the trainer's log which were cut."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[Literal["truncated"], list[float]]


def get_reward_response(rewards: npt.NDArray[np.float32], truncated: npt.NDArray[np.float32]) -> bytes:
    """The reply as JSON bytes.

    Args:
        rewards: float32 [n].
        truncated: 1 for each query that was cut, else 0, float32 [n].
    """
    body = {"rewards": rewards, "scores": rewards, "extra_logs": {"truncated": truncated}}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
