"""Cohere's `POST /v2/embed`, and the form of its errors."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.errors import ApiError, bad_request
from api.protocol.common import PART_SCHEMA, WireRequest
from api.protocol.documents import Document, Documents, parts_document, texts_or_documents
from api.protocol.inputs import MAX_INPUTS, Texts, check_count, kind_of, nonempty_text
from api.protocol.messages import image_at
from api.quantizing import EmbeddingType, EmbeddingTypes, Float32s, quantized
from api.sequences import MODEL_MAXIMUM, Truncation

EXAMPLE: JsonDict = {
    "model": "default",
    "input_type": "search_document",
    "texts": ["A millpond stores water.", "Rain falls."],
    "embedding_types": ["float", "int8"],
}

_PARTS: JsonDict = {
    "type": "object",
    "properties": {"content": {"type": "array", "minItems": 1, "items": PART_SCHEMA}},
    "required": ["content"],
}


IMAGE = "image"
"""The input_type of images, which chooses no prompt."""

SOURCES = ("texts", "inputs", "images")
"""The fields that inputs may come from, one of them."""


class EmbedRequest(WireRequest):
    """`POST /v2/embed`: `texts`, `images`, or `inputs` with content parts. Unknown fields are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"example": EXAMPLE, "oneOf": [{"required": [each]} for each in SOURCES]}
    )

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    input_type: StrictStr | None = Field(
        None,
        description="What the vectors are for: search_query, search_document, classification, clustering, or the name "
        "of one of the checkpoint's prompts; or image, of models that take images. Absent: the checkpoint's default "
        "prompt, if any. It stands before texts, and not before what has an image.",
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
        description=f"Inputs in parts, texts and images; texts alone are joined by line breaks. At most {MAX_INPUTS}.",
        json_schema_extra={"type": "array", "items": _PARTS, "minItems": 1, "maxItems": MAX_INPUTS},
    )
    images: Any = Field(
        None,
        description="Images by their URLs, mostly data: URIs, each an input; for models that take images.",
        json_schema_extra={
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": MAX_INPUTS,
        },
    )
    mm_processor_kwargs: dict[str, Any] | None = Field(
        None, description="vLLM's: how images are processed, of models that take them."
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
        """The field that the inputs come from.

        Raises:
            ApiError: 400, there is none, or more than one.
        """
        given = [each for each in SOURCES if getattr(self, each) is not None]
        if len(given) == 1:
            return given[0]
        which = f"{'More than one' if given else 'None'} of {', '.join(SOURCES)} is there"
        raise bad_request(f"{which}: send one of them.", "texts", "both" if given else "missing")

    def read(self, takes_images: bool) -> Texts | Documents:
        """The inputs to embed.

        Args:
            takes_images: whether the model does.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        if not takes_images and (self.images is not None or self.input_type == IMAGE):
            field = "images" if self.images is not None else "input_type"
            raise bad_request(
                f"{field} is for images, and this model takes text only: send texts.", field, "unsupported_content"
            )
        field = self.source
        values = getattr(self, field)
        if not isinstance(values, list):
            raise bad_request(f"{field} is {kind_of(values)}; it must be a list.", field, "invalid_type")
        check_count(values, field)
        places = [f"{field}[{index}]" for index in range(len(values))]
        each_with_place = zip(values, places, strict=True)
        match field:
            case "texts":
                return Texts([nonempty_text(value, place) for value, place in each_with_place])
            case "images":
                return Documents([Document.of_image(image_at(value, place)) for value, place in each_with_place])
            case _:
                return texts_or_documents(
                    [
                        parts_document(value.get("content") if isinstance(value, dict) else None, place)
                        for value, place in each_with_place
                    ]
                )

    def truncation(self, longest: int) -> Truncation:
        """What it says about inputs that are too long, for a model that takes so many tokens."""
        tokens = MODEL_MAXIMUM if self.max_tokens is None else min(self.max_tokens, longest)
        return Truncation(
            None if self.truncate == "NONE" else tokens,
            "left" if self.truncate == "START" else "right",
            "max_tokens",
            '"truncate": "END"',
        )


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
    images: int = 0,
    image_tokens: int = 0,
) -> bytes:
    """The reply as JSON bytes.

    Args:
        vectors: float32 [n, dimensions].
        texts: they come back; None where the request had parts.
        cut: how many inputs were longer than the limit.
        images, image_tokens: how many there are, and how many of all tokens are theirs.
    """
    billed = {"input_tokens": tokens - image_tokens}
    if images:
        billed |= {"images": images, "image_tokens": image_tokens}
    body = {
        "id": reply_id,
        "embeddings": {
            kind: [base64.b64encode(vector).decode() for vector in vectors.astype("<f4")]
            if kind == "base64"
            else quantized(vectors, kind)
            for kind in kinds
        },
        **({} if texts is None else {"texts": texts}),
        "meta": meta("2", billed, tokens, cut, "inputs"),
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
