"""Cohere's `POST /v2/embed`, and the form of its errors."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.errors import ApiError, bad_request
from api.protocol.common import WireRequest
from api.protocol.documents import Document, cohere_document, image_of
from api.protocol.inputs import MAX_INPUTS, check_count, kind_of, nonempty_text
from api.quantizing import EmbeddingType, EmbeddingTypes, Float32s, quantized
from api.sequences import MODEL_MAXIMUM, Truncation

EXAMPLE: JsonDict = {
    "model": "default",
    "input_type": "search_document",
    "texts": ["A millpond stores water.", "Rain falls."],
    "embedding_types": ["float", "int8"],
}

SOURCES = ("texts", "images", "inputs")
"""The fields of which one has what is embedded."""

_PARTS: JsonDict = {
    "type": "object",
    "properties": {
        "content": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "type": {"enum": ["text", "image_url"]},
                    "text": {"type": "string"},
                    "image_url": {"type": "object", "properties": {"url": {"type": "string"}}},
                },
                "required": ["type"],
            },
        }
    },
    "required": ["content"],
}


class EmbedRequest(WireRequest):
    """`POST /v2/embed`: `texts`, `images`, or `inputs` with content parts. Unknown fields are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"example": EXAMPLE, "oneOf": [{"required": [name]} for name in SOURCES]}
    )

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    input_type: StrictStr | None = Field(
        None,
        description="What the vectors are for: search_query, search_document, classification, clustering, or the name "
        "of one of the checkpoint's prompts. Absent: the checkpoint's default prompt, if any.",
    )
    texts: Any = Field(
        None,
        description=f"Texts; at most {MAX_INPUTS}.",
        json_schema_extra={
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": MAX_INPUTS,
        },
    )
    inputs: Any = Field(
        None,
        description=f"Texts and images in parts; texts alone are joined by line breaks; at most {MAX_INPUTS}.",
        json_schema_extra={"type": "array", "items": _PARTS, "minItems": 1, "maxItems": MAX_INPUTS},
    )
    images: Any = Field(
        None,
        description=f"Images, of models that take them: data: or https: URLs; at most {MAX_INPUTS}.",
        json_schema_extra={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_INPUTS},
    )
    max_tokens: StrictInt | None = Field(
        None, ge=1, lt=2**31, description="The longest input in tokens, special ones included; absent: the model's."
    )
    output_dimension: StrictInt | None = Field(
        None, ge=1, description="Length of the vectors, where the model can shorten them."
    )
    embedding_types: EmbeddingTypes | None = Field(None, description="Forms of each vector; absent: float.")
    truncate: Literal["NONE", "START", "END"] = Field(
        "END", description="Where longer inputs are cut; NONE refuses them."
    )
    priority: StrictInt = Field(
        0, ge=-(2**31), lt=2**31, description="Among your own requests in a lane, the lower the earlier."
    )

    @property
    def types(self) -> Sequence[EmbeddingType]:
        """The forms of vectors that are wanted, each once."""
        return list(dict.fromkeys(self.embedding_types or ["float"]))

    @property
    def source(self) -> str:
        """The field that the inputs come from."""
        return next((name for name in SOURCES if getattr(self, name) is not None), "texts")

    def read(self) -> list[Document]:
        """What to embed.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            which = (
                f"Both {' and '.join(given)} are there" if given else "Neither texts nor images nor inputs are there"
            )
            raise bad_request(f"{which}: send one of them.", "texts", "both" if given else "missing")
        field, values = self.source, getattr(self, self.source)
        if not isinstance(values, list):
            raise bad_request(f"{field} is {kind_of(values)}; it must be a list.", field, "invalid_type")
        check_count(values, field)
        places = [f"{field}[{index}]" for index in range(len(values))]
        read = _READERS[field]
        return [read(value, place) for value, place in zip(values, places, strict=True)]

    def truncation(self, longest: int) -> Truncation:
        """What it says about inputs that are too long, for a model that takes so many tokens."""
        tokens = MODEL_MAXIMUM if self.max_tokens is None else min(self.max_tokens, longest)
        return Truncation(
            None if self.truncate == "NONE" else tokens,
            "left" if self.truncate == "START" else "right",
            "max_tokens",
            '"truncate": "END"',
        )


_READERS: Mapping[str, Callable[[object, str], Document]] = {
    "texts": lambda value, place: Document([nonempty_text(value, place)], place),
    "images": lambda value, place: Document([image_of(value, place)], place),
    "inputs": cohere_document,
}


class EmbedReply(BaseModel):
    """What `POST /v2/embed` answers. `texts` are there where the request had them."""

    id: str
    embeddings: dict[EmbeddingType, list[list[float]] | list[str]]
    texts: list[str] | None = None
    meta: dict[str, Any]
    response_type: Literal["embeddings_by_type"]


class CohereError(BaseModel):
    """What every wrong call is answered with."""

    message: str


def cohere_error(error: ApiError) -> tuple[int, dict[str, Any]]:
    """Cohere's form: `{"message": ...}`."""
    return error.status, {"message": error.message}


def embed_response(
    reply_id: str,
    vectors: Float32s,
    kinds: Sequence[EmbeddingType],
    texts: Sequence[str] | None,
    tokens: int,
    cut: int,
) -> bytes:
    """The reply as JSON bytes.

    Args:
        vectors: float32 [n, dimensions].
        texts: they come back; None where the request had parts.
        cut: how many inputs were longer than the limit.
    """
    body = {
        "id": reply_id,
        "embeddings": {
            kind: [base64.b64encode(vector).decode() for vector in vectors.astype("<f4")]
            if kind == "base64"
            else quantized(vectors, kind)
            for kind in kinds
        },
        **({} if texts is None else {"texts": texts}),
        "meta": meta("2", {"input_tokens": tokens}, tokens, cut, "inputs"),
        "response_type": "embeddings_by_type",
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def meta(version: str, billed: dict[str, int], tokens: int, cut: int, inputs: str) -> dict[str, Any]:
    """The part of Cohere's replies that is about the call; `warnings` are there when something was cut."""
    warnings = [f"{inputs} longer than the limit, which were cut: {cut}"] if cut else []
    return {
        "api_version": {"version": version},
        "billed_units": billed,
        "tokens": {"input_tokens": tokens},
        **({"warnings": warnings} if warnings else {}),
    }
