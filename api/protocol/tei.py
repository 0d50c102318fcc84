"""What the routes of text-embeddings-inference take."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.errors import bad_request
from api.mixing import TextOrIds, TextOrPair
from api.protocol.common import WireRequest
from api.protocol.inputs import MAX_INPUTS, check_count, kind_of, nonempty_text, nonempty_texts, token_ids
from api.sequences import MODEL_MAXIMUM, Truncation

_ONE: JsonDict = {"type": "string", "minLength": 1}
_IDS: JsonDict = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_TEXTS_OR_IDS: JsonDict = {
    "anyOf": [
        _ONE,
        _IDS,
        {"type": "array", "items": {"anyOf": [_ONE, _IDS]}, "minItems": 1, "maxItems": MAX_INPUTS},
    ]
}
_TEXTS: JsonDict = {"type": "array", "items": _ONE, "minItems": 1, "maxItems": MAX_INPUTS}
_TEXT_OR_PAIR: JsonDict = {"type": "array", "items": _ONE, "minItems": 1, "maxItems": 2}
_TEXTS_OR_PAIRS: JsonDict = {
    "anyOf": [
        _ONE,
        _TEXT_OR_PAIR,
        {"type": "array", "items": _TEXT_OR_PAIR, "minItems": 1, "maxItems": MAX_INPUTS},
    ]
}

EMBED_EXAMPLE: JsonDict = {"inputs": ["A millpond stores water.", "Rain falls."]}
RERANK_EXAMPLE: JsonDict = {
    "query": "What does a millpond store?",
    "texts": ["A millpond stores water.", "Rain falls."],
}
PREDICT_EXAMPLE: JsonDict = {"inputs": "A millpond stores water."}
SIMILARITY_EXAMPLE: JsonDict = {
    "inputs": {"source_sentence": "What does a millpond store?", "sentences": ["It stores water.", "Rain falls."]}
}


class TruncatedRequest(WireRequest):
    """What may be said about inputs that are too long."""

    truncate: StrictBool | None = Field(
        None, description="Whether inputs longer than the model takes are cut; absent: they are refused."
    )
    truncation_direction: Literal["Right", "Left", "right", "left"] = Field(
        "Right", description="Where they are cut: at their end, or at their beginning."
    )

    @property
    def truncation(self) -> Truncation:
        """What it says about inputs that are too long."""
        side: Literal["left", "right"] = "left" if self.truncation_direction.lower() == "left" else "right"
        return Truncation(MODEL_MAXIMUM if self.truncate else None, side, "truncate", '"truncate": true')


class TeiRequest(TruncatedRequest):
    """What all routes take."""

    model: StrictStr | None = Field(
        None, description="Millpond's own, where several models are served; absent: the first."
    )


class EmbedAllRequest(TeiRequest):
    """`POST /embed_all`."""

    model_config = ConfigDict(json_schema_extra={"example": EMBED_EXAMPLE})

    inputs: Any = Field(
        ...,
        description=f"A text, token ids, or a list of texts and of lists of token ids; at most {MAX_INPUTS}.",
        json_schema_extra=_TEXTS_OR_IDS,
    )
    prompt_name: StrictStr | None = Field(
        None, description="Which of the checkpoint's prompts stands before each text; null is its default, if any."
    )

    def read(self, vocabulary_size: int) -> Sequence[TextOrIds]:
        """The inputs, at least one.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        value = self.inputs
        if isinstance(value, str):
            return [nonempty_text(value, "inputs")]
        if not isinstance(value, list):
            raise bad_request(
                f"inputs is {kind_of(value)}; it must be a text, token ids, or a list of these.",
                "inputs",
                "invalid_type",
            )
        if value and type(value[0]) is int:
            read: list[TextOrIds] = [token_ids(value, "inputs", vocabulary_size)]
        else:
            check_count(value, "inputs")
            read = [
                nonempty_text(each, place) if isinstance(each, str) else token_ids(each, place, vocabulary_size)
                for place, each in ((f"inputs[{index}]", each) for index, each in enumerate(value))
            ]
        if self.prompt_name is not None and not all(isinstance(each, str) for each in read):
            raise bad_request(
                "prompt_name puts a text before texts, and inputs has token ids: leave it out, or send texts.",
                "prompt_name",
            )
        return read


class EmbedRequest(EmbedAllRequest):
    """`POST /embed`."""

    normalize: StrictBool = Field(True, description="Whether the vectors have length 1.")
    dimensions: StrictInt | None = Field(
        None, ge=1, lt=2**31, description="Length of the vectors, where the model can shorten them."
    )
    encoding_format: Literal["float"] | None = Field(
        None, description="Vectors come as numbers here; other forms are to be had at /v1/embeddings."
    )


class TextsRequest(TeiRequest):
    """`POST /rerank` with `texts`."""

    model_config = ConfigDict(json_schema_extra={"example": RERANK_EXAMPLE})

    query: Any = Field(..., description="A text.", json_schema_extra={"type": "string", "minLength": 1})
    texts: Any = Field(..., description=f"Texts; at most {MAX_INPUTS}.", json_schema_extra=_TEXTS)
    raw_scores: StrictBool = Field(False, description="Scores as the model gives them, in place of 0 to 1.")
    return_text: StrictBool = Field(False, description="Whether the reply repeats the texts.")

    def read(self) -> tuple[str, list[str]]:
        """The query and the texts.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        if self.truncate and self.truncation.side == "left":
            raise bad_request(
                "truncation_direction is Left, and of a query with a text the text's end is cut: leave it out.",
                "truncation_direction",
            )
        return nonempty_text(self.query, "query"), nonempty_texts(self.texts, "texts")


class PipelineParameters(WireRequest):
    """What Hugging Face's clients say about a classification."""

    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="What makes a probability of a raw score; absent: what fits the model."
    )
    top_k: StrictInt | None = Field(None, ge=1, lt=2**31, description="How many of the best labels; absent: all.")


class PredictRequest(TeiRequest):
    """`POST /predict`."""

    model_config = ConfigDict(json_schema_extra={"example": PREDICT_EXAMPLE})

    inputs: Any = Field(
        ...,
        description=f"A text, a pair of texts, or a list of lists of one text or two; at most {MAX_INPUTS}.",
        json_schema_extra=_TEXTS_OR_PAIRS,
    )
    raw_scores: StrictBool = Field(False, description="Scores as the model gives them, in place of probabilities.")
    parameters: Any = Field(
        None,
        description="Of Hugging Face's clients; the reply is then a list of lists, also for one text.",
        json_schema_extra=PipelineParameters.model_json_schema(),
    )

    @property
    def is_single(self) -> bool:
        """Whether it has one text or one pair, not a list of them."""
        return isinstance(self.inputs, str) or (
            isinstance(self.inputs, list) and bool(self.inputs) and isinstance(self.inputs[0], str)
        )

    def read(self) -> Sequence[TextOrPair]:
        """The inputs, at least one.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        if self.is_single:
            return [_text_or_pair([self.inputs] if isinstance(self.inputs, str) else self.inputs, "inputs")]
        if not isinstance(self.inputs, list):
            raise bad_request(
                f"inputs is {kind_of(self.inputs)}; it must be a text, a pair of texts, or a list of lists of these.",
                "inputs",
                "invalid_type",
            )
        check_count(self.inputs, "inputs")
        return [_text_or_pair(each, f"inputs[{index}]") for index, each in enumerate(self.inputs)]

    @property
    def pipeline(self) -> PipelineParameters | None:
        """The parameters, where there are some.

        Raises:
            ApiError: 400 that says which of them is wrong and why, or that they contradict raw_scores.
        """
        if self.parameters is None:
            return None
        parameters = PipelineParameters.parse(_object(self.parameters, "parameters"))
        if self.raw_scores and parameters.function_to_apply not in (None, "none"):
            raise bad_request(
                f"raw_scores is true and function_to_apply is {parameters.function_to_apply}: send one of them.",
                "function_to_apply",
            )
        return parameters


class SimilarityParameters(TruncatedRequest):
    """What `POST /similarity` takes beside its sentences."""

    prompt_name: StrictStr | None = Field(
        None, description="Which of the checkpoint's prompts stands before each text; null is its default, if any."
    )


class SimilarityRequest(WireRequest):
    """`POST /similarity`."""

    model_config = ConfigDict(json_schema_extra={"example": SIMILARITY_EXAMPLE})

    model: StrictStr | None = Field(
        None, description="Millpond's own, where several models are served; absent: the first."
    )
    inputs: Any = Field(
        ...,
        description="A sentence, and those that it is compared with.",
        json_schema_extra={
            "type": "object",
            "properties": {"source_sentence": _ONE, "sentences": _TEXTS},
            "required": ["source_sentence", "sentences"],
        },
    )
    parameters: Any = Field(
        None,
        description="How the sentences are read.",
        json_schema_extra=SimilarityParameters.model_json_schema(),
    )

    def read(self) -> tuple[str, list[str]]:
        """The source and the sentences.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        inputs = _object(self.inputs, "inputs")
        source = nonempty_text(inputs.get("source_sentence"), "source_sentence")
        return source, nonempty_texts(inputs.get("sentences"), "sentences")

    @property
    def options(self) -> SimilarityParameters:
        """The parameters; raises a 400 that names the wrong one."""
        return SimilarityParameters.parse({} if self.parameters is None else _object(self.parameters, "parameters"))


def _object(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request(f"{field} is {kind_of(value)}; it must be an object.", field, "invalid_type")
    return value


def _text_or_pair(value: object, place: str) -> TextOrPair:
    if not isinstance(value, list) or not 1 <= len(value) <= 2:
        given = f"a list of {len(value)}" if isinstance(value, list) else kind_of(value)
        raise bad_request(
            f"{place} is {given}; it must be a list of one text, or of two, which are a pair.", "inputs", "invalid_type"
        )
    texts = [nonempty_text(each, f"{place}[{index}]" if len(value) > 1 else place) for index, each in enumerate(value)]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])
