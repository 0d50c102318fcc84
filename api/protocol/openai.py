"""OpenAI's embeddings and models, with the fields that FastDeploy and vLLM add to them."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.errors import bad_request
from api.protocol.common import ConversationRequest, Messages

EXAMPLE: JsonDict = {"model": "default", "input": ["A millpond stores water.", "Rain falls."]}


class EmbeddingRequest(ConversationRequest):
    """`POST /v1/embeddings`, in two forms: `input` is one to 2,048 inputs, `messages` is one conversation."""

    model_config = ConfigDict(
        json_schema_extra={"example": EXAMPLE, "oneOf": [{"required": ["input"]}, {"required": ["messages"]}]}
    )

    input: Any = Field(
        None,
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
    messages: Messages = Field(None, description="One conversation to embed, or its token ids.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Vectors as numbers, or as base64 of little-endian float32."
    )
    dimensions: StrictInt | None = Field(
        None, ge=1, description="Length of the vectors, where the model can shorten them."
    )
    add_special_tokens: StrictBool | None = Field(
        None, description="Whether the tokenizer frames texts as the model expects; absent: yes, and no for messages."
    )
    normalize: StrictBool | None = Field(None, description="Vectors of length 1 or not; null is the model's setting.")
    prompt_name: StrictStr | None = Field(
        None, description="Which of the checkpoint's prompts stands before each text; null is its default, if any."
    )

    max_embed_len: StrictInt | None = Field(
        None,
        description="Texts longer than the model's limit, of up to so many tokens, are embedded in pieces, and the "
        "vectors averaged by their tokens. Absent: they are refused, unless the server embeds all so.",
    )

    def wants_pieces(self, by_itself: bool) -> bool:
        """Whether texts over the model's limit are embedded in pieces.

        Args:
            by_itself: whether the server embeds all so.

        Raises:
            ApiError: 400, the request also says that they are cut, or framed by no special tokens.
        """
        if self.max_embed_len is None:
            return by_itself and self.truncate_prompt_tokens is None and self.add_special_tokens is not False
        if self.truncate_prompt_tokens is not None or self.add_special_tokens is False:
            raise bad_request(
                "max_embed_len embeds all of a text in framed pieces: leave it out, or leave out "
                "truncate_prompt_tokens and add_special_tokens.",
                "max_embed_len",
            )
        return True

    @property
    def is_conversation(self) -> bool:
        """Which of the two forms it has.

        Raises:
            ApiError: 400 when it has both or none.
        """
        if self.messages is None:
            if "input" not in self.model_fields_set:
                raise bad_request("Neither input nor messages is there: send one of them.", "input", "missing")
            return False
        if self.input is not None:
            raise bad_request("Both input and messages are there: send one of them.", "messages")
        return True


def embedding_response(
    reply_id: str,
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
        "id": reply_id,
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
    """One entry of `GET /v1/models`.

    `dimensions` are the numbers of an embedding, or of a score. `normalize` is there for embeddings, `activation` for
    scores.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "millpond"
    max_model_len: int
    dimensions: int
    tasks: list[str]
    pooling: str
    normalize: bool | None
    activation: str | None


class ModelList(BaseModel):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]
