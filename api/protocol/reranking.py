"""Jina's and Cohere's (version 1) `POST /v1/rerank`: documents by their relevance to a query."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import ConfigDict, Field, StrictBool, StrictInt
from pydantic.config import JsonDict

from api.errors import bad_request
from api.protocol.common import PoolingRequest
from api.protocol.inputs import MAX_INPUTS, kind_of

EXAMPLE: JsonDict = {
    "model": "default",
    "query": "What does a millpond store?",
    "documents": ["A millpond stores water.", "Rain falls."],
    "top_n": 1,
}

_TEXT: JsonDict = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]},
    ]
}


class RerankRequest(PoolingRequest):
    """`POST /v1/rerank`."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    query: Any = Field(..., description='A text, or {"text": ...}.', json_schema_extra=_TEXT)
    documents: Any = Field(
        ...,
        description=f'Texts, or objects {{"text": ...}}; at most {MAX_INPUTS}.',
        json_schema_extra={"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_INPUTS},
    )
    top_n: StrictInt | None = Field(None, ge=1, description="How many of the best to return; absent: all.")
    return_documents: StrictBool = Field(False, description="Whether the reply repeats the documents' texts.")

    def texts(self) -> tuple[str, list[str]]:
        """The query and the documents.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        if not isinstance(self.documents, list):
            raise bad_request(
                f"documents is {kind_of(self.documents)}; it must be a list of strings.", "documents", "invalid_type"
            )
        if not self.documents:
            raise bad_request("documents is an empty list: send at least one.", "documents", "empty")
        if len(self.documents) > MAX_INPUTS:
            raise bad_request(
                f"documents has {len(self.documents)} entries, over the {MAX_INPUTS} of one call: send several calls.",
                "documents",
                "too_many_inputs",
            )
        query = _text(self.query, "query")
        return query, [_text(each, f"documents[{index}]") for index, each in enumerate(self.documents)]


def _text(value: object, place: str) -> str:
    param = place.partition("[")[0]
    if isinstance(value, dict):
        if "text" not in value and {"image", "image_url"} & value.keys():
            raise bad_request(
                f"{place} is an image, and this model takes text only: leave it out.", param, "unsupported_content"
            )
        value, place = value.get("text"), f"{place}.text"
    if not isinstance(value, str):
        raise bad_request(f"{place} is {kind_of(value)}; it must be a string.", param, "invalid_type")
    if not value:
        raise bad_request(f"{place} is an empty string: leave it out.", param, "empty")
    return value


def rerank_response(
    reply_id: str,
    model: str,
    scores: npt.NDArray[np.float32],
    documents: Sequence[str] | None,
    prompt_tokens: int,
    *,
    top_n: int | None,
    activation: str,
) -> bytes:
    """The reply as JSON bytes, the best first, equal ones in the order in which they came.

    Args:
        scores: the relevance of each document, float32 [n].
        documents: their texts, where the caller wants them back.
        activation: what was applied to the scores, by name.
    """
    order = np.argsort(-scores, kind="stable")[:top_n]
    results: list[dict[str, Any]] = [{"index": int(index), "relevance_score": scores[index]} for index in order]
    if documents is not None:
        for result in results:
            result["document"] = {"text": documents[result["index"]]}
    body = {
        "id": reply_id,
        "object": "list",
        "model": model,
        "results": results,
        "activation": activation,
        "meta": {"api_version": {"version": "1"}},
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
