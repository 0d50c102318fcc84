"""OpenAI's embeddings and models, with the fields that FastDeploy and vLLM add to them."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from api.errors import bad_request


class EmbeddingRequest(BaseModel):
    """`POST /v1/embeddings`. Fields that are not named here are accepted and ignored, as OpenAI's clients expect."""

    model_config = ConfigDict(extra="ignore")

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    input: Any = Field(
        ...,
        description="A text, a list of texts, token ids, or a list of lists of token ids; at most 2,048 inputs.",
        json_schema_extra={
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 2048},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "minItems": 1,
                    "maxItems": 2048,
                },
            ]
        },
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Vectors as numbers, or as base64 of little-endian float32."
    )
    dimensions: StrictInt | None = Field(
        None, ge=1, description="Length of the vectors, where the model can shorten them."
    )
    user: StrictStr | None = Field(None, description="Taken and not used.")
    truncate_prompt_tokens: StrictInt | None = Field(
        None,
        ge=-1,
        description="Longer inputs are cut to so many tokens; -1 is the model's maximum. Absent: too long is an error.",
    )
    add_special_tokens: StrictBool = Field(True, description="Whether the tokenizer frames texts as the model expects.")
    normalize: StrictBool | None = Field(None, description="Vectors of length 1 or not; null is the model's setting.")

    @classmethod
    def parse(cls, body: object) -> "EmbeddingRequest":
        """The request, or a 400 that names the wrong field.

        Raises:
            ApiError: a field has the wrong type or value.
        """
        if not isinstance(body, dict):
            raise bad_request("The body must be a JSON object.", code="invalid_type")
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            raise bad_request(f"{field}: {first['msg']}.", field) from error


def embedding_response(
    request_id: str,
    created: int,
    model: str,
    vectors: Sequence[bytes],
    encoding_format: Literal["float", "base64"],
    prompt_tokens: int,
) -> bytes:
    """The reply as JSON bytes. `vectors` are little-endian float32, which base64 carries as they are."""

    def encoded(vector: bytes) -> object:
        return base64.b64encode(vector).decode() if encoding_format == "base64" else np.frombuffer(vector, "<f4")

    body = {
        "id": request_id,
        "object": "list",
        "created": created,
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": encoded(vector)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


class Model(BaseModel):
    """One entry of `GET /v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "millpond"
    max_model_len: int
    dimensions: int
    pooling: str


class ModelList(BaseModel):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]
