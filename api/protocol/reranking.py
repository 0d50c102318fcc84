"""`POST /v1/rerank`, for the clients of Jina, Cohere (version 1), vLLM and Infinity, and Cohere's `POST /v2/rerank`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt
from pydantic.config import JsonDict

from api.dialect import ErrorBody
from api.errors import ApiError, bad_request, openai_error
from api.protocol.cohere import meta
from api.protocol.common import PoolingRequest
from api.protocol.inputs import MAX_INPUTS, check_count, kind_of
from api.protocol.texts import FORMS, TEXT_SCHEMA, Compared, text_or_image_of
from api.sequences import MODEL_MAXIMUM, Truncation
from pooling.tokenizing import Side

TOKENS_PER_DOCUMENT = 4096
"""Where Cohere's version 2 cuts documents by itself."""

DOCUMENTS_PER_SEARCH_UNIT = 100
"""Of which Cohere's replies count how many a call took."""

EXAMPLE: JsonDict = {
    "model": "default",
    "query": "What does a millpond store?",
    "documents": ["A millpond stores water.", "Rain falls."],
    "top_n": 1,
}


class RerankRequest(PoolingRequest):
    """`POST /v1/rerank`."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    query: Any = Field(..., description=f"A text, or an object like {FORMS}.", json_schema_extra=TEXT_SCHEMA)
    documents: Any = Field(
        ...,
        description=f"Texts, or objects like {FORMS}; at most {MAX_INPUTS}.",
        json_schema_extra={"type": "array", "items": TEXT_SCHEMA, "minItems": 1, "maxItems": MAX_INPUTS},
    )
    top_n: StrictInt | None = Field(None, ge=1, lt=2**31, description="How many of the best to return; absent: all.")
    return_documents: StrictBool = Field(False, description="Whether the reply repeats the documents' texts.")
    max_tokens_per_doc: StrictInt | None = Field(
        None, ge=1, lt=2**31, description="Documents with more tokens of their own are cut to so many, at their end."
    )
    raw_scores: StrictBool | None = Field(None, description="true: scores without an activation.")
    use_activation: StrictBool | None = Field(
        None, description="false: scores without an activation; true: from 0 to 1, whatever the checkpoint states."
    )
    max_chunks_per_doc: StrictInt | None = Field(
        None, ge=1, lt=2**31, description="Taken and without effect: a document is never split here."
    )
    rank_fields: list[str] | None = Field(
        None, max_length=64, description='Of documents that are objects the text is read: ["text"], or absent.'
    )

    @property
    def activate(self) -> bool | None:
        """Whether an activation is applied to scores; None leaves it to the checkpoint.

        Raises:
            ApiError: 400, the request says both.
        """
        if self.raw_scores is None:
            return self.use_activation
        if self.use_activation == self.raw_scores:
            raise bad_request(
                "raw_scores and use_activation say the opposite of each other: send one of them.", "raw_scores"
            )
        return not self.raw_scores

    def truncation(self, side: Side = "right") -> Truncation:
        """What it says about documents that are too long.

        Raises:
            ApiError: 400, they are to be cut at their beginning.
        """
        self.check_cuts_ends()
        return Truncation(self.truncate_prompt_tokens, side, document_tokens=self.max_tokens_per_doc)

    def compared(self) -> tuple[Compared, list[Compared]]:
        """The query and the documents.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        if not isinstance(self.documents, list):
            raise bad_request(
                f"documents is {kind_of(self.documents)}; it must be a list of strings.", "documents", "invalid_type"
            )
        check_count(self.documents, "documents")
        if self.rank_fields not in (None, ["text"]):
            raise bad_request(
                f"rank_fields is {self.rank_fields}, and documents are read by their text only: leave it out, and "
                "send what counts in one text.",
                "rank_fields",
            )
        query = text_or_image_of(self.query, "query")
        return query, [text_or_image_of(each, f"documents[{index}]") for index, each in enumerate(self.documents)]


class CohereRerankRequest(RerankRequest):
    """`POST /v2/rerank`. Unknown fields are ignored."""

    max_tokens_per_doc: StrictInt = Field(
        TOKENS_PER_DOCUMENT,
        ge=1,
        lt=2**31,
        description="Documents with more tokens are cut to so many, and further to what the model takes with the "
        "query; the reply's meta.warnings say how many were.",
    )

    def truncation(self, side: Side = "right") -> Truncation:
        """Long documents are cut here without being asked."""
        said = super().truncation(side)
        if self.truncate_prompt_tokens is not None:
            return said
        return Truncation(MODEL_MAXIMUM, side, "max_tokens_per_doc", document_tokens=self.max_tokens_per_doc)


@dataclass(frozen=True)
class Ranking:
    """What came of a call.

    Attributes:
        order: the documents' places in the request, the best first, equal ones in the order in which they came.
        scores: the relevance of each, in this order, float32 [n].
        documents: texts and images, in the order of the request.
        echoed: whether the caller wants them back.
        activation: what was applied to the scores, by name.
        tokens: how many were computed.
    """

    model: str
    order: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    documents: Sequence[Compared]
    echoed: bool
    activation: str
    tokens: int

    @property
    def results(self) -> list[dict[str, Any]]:
        """The list of the replies."""
        found: list[dict[str, Any]] = [
            {"index": int(index), "relevance_score": score}
            for index, score in zip(self.order, self.scores, strict=True)
        ]
        if self.echoed:
            for result in found:
                document = self.documents[result["index"]]
                result["document"] = {"text": document} if isinstance(document, str) else {"image": document.url}
        return found

    def summary(self, reply_id: str) -> dict[str, Any]:
        """What a reply says beside the results."""
        return {
            "id": reply_id,
            "object": "list",
            "model": self.model,
            "activation": self.activation,
            "usage": {"prompt_tokens": self.tokens, "total_tokens": self.tokens},
        }


class RerankResult(BaseModel):
    """One document. `document` is `{"text": ...}` or `{"image": ...}` where it was asked for."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankReply(BaseModel):
    """What `POST /v1/rerank` answers, the best first."""

    id: str
    object: str
    model: str
    results: list[RerankResult]
    activation: str
    meta: dict[str, Any]
    usage: dict[str, int]


class CohereRerankReply(BaseModel):
    """What `POST /v2/rerank` answers, the best first."""

    id: str
    results: list[RerankResult]
    meta: dict[str, Any]


def rerank_response(reply_id: str, ranking: Ranking) -> bytes:
    """The reply of version 1 as JSON bytes."""
    body = {**ranking.summary(reply_id), "results": ranking.results, "meta": {"api_version": {"version": "1"}}}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def cohere_rerank_response(reply_id: str, ranking: Ranking, cut: int) -> bytes:
    """The reply of version 2 as JSON bytes.

    Args:
        cut: how many texts were longer than the limit: documents, and the query where it is read alone.
    """
    units = -(-len(ranking.documents) // DOCUMENTS_PER_SEARCH_UNIT)
    body = {
        "id": reply_id,
        "results": ranking.results,
        "meta": meta("2", {"search_units": units}, ranking.tokens, cut, "texts"),
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


class RerankError(BaseModel):
    """What every wrong call of `/v1/rerank` is answered with: OpenAI's and vLLM's form, Cohere's and Jina's at once."""

    error: ErrorBody
    message: str
    detail: str


def rerank_error(error: ApiError) -> tuple[int, dict[str, Any]]:
    """The error where each client looks for it: OpenAI's and vLLM's in `error`, Cohere's `message`, Jina's `detail`."""
    status, body = openai_error(error)
    return status, {**body, "message": error.message, "detail": error.message}
