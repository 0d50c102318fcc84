"""`POST /v1/rows`: many rows in one call, and for each its result or why it has none. The way of every backfill."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt
from pydantic.config import JsonDict

from api.errors import ApiError, openai_error
from api.protocol.common import PoolingRequest
from api.protocol.inputs import MAX_INPUTS, check_count


class RowTask(StrEnum):
    """What is to become of the rows of a call."""

    SCORE = "score"
    EMBED = "embed"
    RERANK = "rerank"


EXAMPLE: JsonDict = {
    "model": "default",
    "task": "embed",
    "rows": [{"text": "A millpond stores water."}, {"text": "Rain falls."}],
}

_ROW: JsonDict = {
    "type": "object",
    "properties": {
        "messages": {"type": "array", "minItems": 1},
        "text": {"type": "string", "minLength": 1},
        "query": {"type": "string", "minLength": 1},
        "documents": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
}


class RowsRequest(PoolingRequest):
    """`POST /v1/rows`."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    task: RowTask = Field(..., description="What the rows are for.")
    rows: Any = Field(
        ...,
        description="Up to 2,048 objects: messages or text (score, embed), or query and documents (rerank).",
        json_schema_extra={"type": "array", "items": _ROW, "minItems": 1, "maxItems": MAX_INPUTS},
    )
    dimensions: StrictInt | None = Field(None, ge=1, description="Length of embeddings, where the model can shorten.")
    normalize: StrictBool | None = Field(None, description="Embeddings of length 1 or not; null is the model's own.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Embeddings as numbers, or as base64 of little-endian float32."
    )
    add_special_tokens: StrictBool | None = Field(
        None, description="Whether the tokenizer frames a row; null: a text yes, messages no."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Further variables for the chat template.")
    mm_processor_kwargs: dict[str, Any] | None = Field(
        None, description="How the images of messages are processed, as on /v1/embeddings."
    )
    render_only: StrictBool = Field(False, description="Nothing is computed: the reply has each row's text and tokens.")

    def checked_rows(self) -> list[object]:
        """The rows, each whatever it is; raises a 400 when they are none, too many, or no list."""
        if not isinstance(self.rows, list):
            raise ApiError(400, "rows must be a list of objects.", param="rows", code="invalid_type")
        check_count(self.rows, "rows")
        return self.rows


class RowEntry(BaseModel):
    """What became of a row: one of score, embedding, scores, prompt and error."""

    index: int
    tokens: int
    truncated: bool | None = None
    score: list[float] | None = None
    embedding: list[float] | str | None = None
    scores: list[float] | None = None
    prompt: str | None = None
    error: dict[str, Any] | None = None


class RowsReply(BaseModel):
    """The reply of `POST /v1/rows`."""

    id: str
    object: str
    created: int
    model: str
    task: RowTask
    pooling: str
    activation: str
    data: list[RowEntry]
    usage: dict[str, int]


_PLACE = re.compile(r"(?:messages|documents)(?:\[\d+\]|\.\w+)+")
"""How messages to callers begin that are about something inside a row: `messages[0].role is null; ...`."""


def error_entry(error: ApiError) -> dict[str, Any]:
    """The entry of a row that is wrong: what OpenAI's clients would read of it. `param` is the place inside the row."""
    _, body = openai_error(error)
    found = body["error"]
    place = _PLACE.match(error.message)
    return {"tokens": 0, "error": {**found, "param": place.group()} if place else found}


def rows_response(summary: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> bytes:
    """The reply as JSON bytes; numbers may be numpy arrays."""
    data = [{"index": index, **entry} for index, entry in enumerate(entries)]
    return orjson.dumps({**summary, "data": data}, option=orjson.OPT_SERIALIZE_NUMPY)
