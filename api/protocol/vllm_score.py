"""vLLM's `POST /score`: how like, or how relevant, texts are to each other, pair by pair."""

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.errors import bad_request
from api.protocol.common import PoolingRequest
from api.protocol.inputs import MAX_INPUTS, check_count
from api.protocol.texts import TEXT_SCHEMA, text_of
from api.scoring import Group, Relevance
from api.sequences import PairFields, Truncation
from pooling.tokenizing import Side

EXAMPLE: JsonDict = {
    "model": "default",
    "queries": "What does a millpond store?",
    "documents": ["A millpond stores water.", "Rain falls."],
}

FORMS = (("queries", "documents"), ("text_1", "text_2"), ("queries", "items"), ("data_1", "data_2"))
"""What the two sides of the pairs may be called."""

_NAMES = " or ".join(f"{left} and {right}" for left, right in FORMS)

_SIDE: JsonDict = {
    "anyOf": [TEXT_SCHEMA, {"type": "array", "items": TEXT_SCHEMA, "minItems": 1, "maxItems": MAX_INPUTS}]
}


def _side(description: str) -> Any:  # what pydantic's Field gives
    return Field(None, description=description, json_schema_extra=_SIDE)


class ScoreRequest(PoolingRequest):
    """`POST /score`: two texts, a text with each of a list, or two lists of one length, pair by pair."""

    model_config = ConfigDict(
        json_schema_extra={"example": EXAMPLE, "oneOf": [{"required": list(form)} for form in FORMS]}
    )

    queries: Any = _side("A text or several.")
    documents: Any = _side("What queries are compared with.")
    items: Any = _side("Another name of documents.")
    text_1: Any = _side("Another name of queries.")
    text_2: Any = _side("Another name of documents.")
    data_1: Any = _side("Another name of queries.")
    data_2: Any = _side("Another name of documents.")
    use_activation: StrictBool | None = Field(
        None, description="false: raw scores; true: from 0 to 1, whatever the checkpoint states."
    )
    max_tokens_per_query: StrictInt = Field(
        0, ge=0, lt=2**31, description="Queries with more tokens of their own are cut at their end; 0: never."
    )
    max_tokens_per_doc: StrictInt = Field(
        0, ge=0, lt=2**31, description="Documents with more tokens of their own are cut at their end; 0: never."
    )
    instruction: StrictStr | None = Field(
        None,
        description="What a reranker that is a language model is told of its task, in place of what its checkpoint "
        "says; refused where a model has no place for it.",
    )

    @property
    def fields(self) -> PairFields:
        """What it calls the two sides.

        Raises:
            ApiError: 400, it has one side, none, or more than two.
        """
        given = {name for form in FORMS for name in form if getattr(self, name) is not None}
        for left, right in FORMS:
            if given == {left, right}:
                return PairFields(left, right)
        found = f"There are {', '.join(sorted(given))}" if given else "There are no texts"
        raise bad_request(f"{found}; send {_NAMES}.", min(given, default="queries"), "missing")

    def groups(self, fields: PairFields) -> list[Group]:
        """The pairs; all of one query are together.

        Raises:
            ApiError: 400 that says which text is wrong and why, or that the two sides do not fit.
        """
        queries, documents = (_texts(getattr(self, name), name) for name in (fields.query, fields.documents))
        if len(queries) == 1:
            return [Group(queries[0], documents, self.instruction)]
        if len(queries) != len(documents):
            raise bad_request(
                f"{fields.query} has {len(queries)} texts and {fields.documents} {len(documents)}: send one "
                f"in {fields.query}, or as many on both sides.",
                fields.query,
            )
        return [Group(query, [document], self.instruction) for query, document in zip(queries, documents, strict=True)]

    def truncation(self, side: Side = "right") -> Truncation:
        """What it says about pairs that are too long.

        Raises:
            ApiError: 400, they are to be cut at their beginning.
        """
        self.check_cuts_ends()
        return Truncation(self.truncate_prompt_tokens, side, document_tokens=self.max_tokens_per_doc or None)


def _texts(value: object, field: str) -> list[str]:
    if not isinstance(value, list):
        return [text_of(value, field)]
    check_count(value, field)
    return [text_of(each, f"{field}[{index}]") for index, each in enumerate(value)]


class Score(BaseModel):
    """What came of one pair."""

    index: int
    object: Literal["score"]
    score: float


class ScoreReply(BaseModel):
    """What `POST /score` answers; `activation` says what was applied to the scores."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    activation: str
    data: list[Score]
    usage: dict[str, int]


def score_response(head: dict[str, Any], found: Relevance) -> bytes:
    """The reply as JSON bytes."""
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(found.scores)]
    return orjson.dumps({**head, "data": data}, option=orjson.OPT_SERIALIZE_NUMPY)
