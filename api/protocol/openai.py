"""OpenAI's embeddings and models, with the fields that FastDeploy, vLLM and Jina add to them."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.errors import bad_request
from api.protocol.common import ONE_OF_BOTH, InputRequest
from api.protocol.documents import Document, image_of
from api.protocol.inputs import check_count
from api.quantizing import EmbeddingType, EmbeddingTypes, quantized

EXAMPLE: JsonDict = {"model": "default", "input": ["A millpond stores water.", "Rain falls."]}


class EmbeddingRequest(InputRequest):
    """`POST /v1/embeddings`, in two forms: `input` is one to 2,048 inputs, `messages` is one conversation."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE, **ONE_OF_BOTH})

    encoding_format: EmbeddingType = Field(
        "float",
        description="Vectors as numbers, as base64 of little-endian float32, as whole numbers of one byte, or in one "
        "bit for each number.",
    )
    embedding_type: EmbeddingType | EmbeddingTypes | None = Field(
        None, description="Jina's name for encoding_format; a list of one is that one."
    )
    dimensions: StrictInt | None = Field(
        None, ge=1, description="Length of the vectors, where the model can shorten them."
    )
    normalize: StrictBool | None = Field(None, description="Vectors of length 1 or not; null is the model's setting.")
    normalized: StrictBool | None = Field(None, description="Jina's name for normalize.")
    prompt_name: StrictStr | None = Field(
        None, description="Which of the checkpoint's prompts stands before each text; null is its default, if any."
    )
    task: StrictStr | None = Field(
        None,
        description="Jina's: retrieval.query, retrieval.passage, text-matching, classification or separation, which "
        "chooses the checkpoint's prompt for it, if any; or the name of a prompt.",
    )
    late_chunking: StrictBool = Field(False, description="Jina's; not served: false, or absent.")
    modality: Literal["text", "image"] | None = Field(
        None, description="Infinity's: of image, each input is the URL of an image."
    )

    def documents(self) -> list[Document]:
        if self.modality != "image":
            return super().documents()
        values = self.input if isinstance(self.input, list) else [self.input]
        check_count(values, "input")
        return [Document([image_of(each, f"input[{index}]")], f"input[{index}]") for index, each in enumerate(values)]

    @property
    def holds_documents(self) -> bool:
        return super().holds_documents or (self.modality == "image" and not self.is_conversation)

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
    def form(self) -> EmbeddingType:
        """What the numbers of the vectors are to be.

        Raises:
            ApiError: 400, the request says two things.
        """
        wanted = self.embedding_type
        if isinstance(wanted, list):
            if len(set(wanted)) != 1:
                raise bad_request(
                    f"embedding_type has {len(set(wanted))} types, and the reply has one: send one, or use /v2/embed.",
                    "embedding_type",
                )
            wanted = wanted[0]
        if wanted is not None and "encoding_format" in self.model_fields_set and wanted != self.encoding_format:
            raise bad_request(
                f"embedding_type is {wanted} and encoding_format {self.encoding_format}: send one of them.",
                "embedding_type",
            )
        return wanted or self.encoding_format

    @property
    def normalizes(self) -> bool | None:
        """Whether vectors get length 1; None leaves it to the model.

        Raises:
            ApiError: 400, the request says two things.
        """
        if self.normalized is not None and self.normalize not in (None, self.normalized):
            raise bad_request("normalize and normalized contradict each other: send one of them.", "normalized")
        return self.normalize if self.normalized is None else self.normalized

    def check_jina(self) -> None:
        """Raises a 400 for what Jina's clients may ask and nobody does here."""
        if self.late_chunking:
            raise bad_request(
                "late_chunking is true, and each input is embedded by itself here: leave it out.", "late_chunking"
            )
        if self.task is not None and self.prompt_name is not None:
            raise bad_request("task and prompt_name both choose a prompt: send one of them.", "task")


class Embedding(BaseModel):
    """One vector: numbers, or base64 of them."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingReply(BaseModel):
    """What `POST /v1/embeddings` answers."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Embedding]
    usage: dict[str, int]


def embedding_response(summary: Mapping[str, Any], vectors: Sequence[bytes], kind: EmbeddingType) -> bytes:
    """The reply as JSON bytes. `vectors` are little-endian float32, which base64 carries as they are."""
    if kind == "base64":
        rows: Iterable[object] = (base64.b64encode(vector).decode() for vector in vectors)
    elif kind == "float":
        rows = (np.frombuffer(vector, "<f4") for vector in vectors)
    else:
        rows = quantized(np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1), kind)
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    return orjson.dumps({**summary, "data": data}, option=orjson.OPT_SERIALIZE_NUMPY)


class Model(BaseModel):
    """One entry of `GET /v1/models`.

    `dimensions` are the numbers of an embedding, or of a score. `normalize` is there for embeddings, `activation` for
    scores. Two servers whose models have the same `fingerprint` give the same results.
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
    fingerprint: str


class ModelList(BaseModel):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]
