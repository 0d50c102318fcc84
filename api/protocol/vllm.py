"""vLLM's `POST /pooling` and `POST /classify`, and the form of its errors."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt
from pydantic.config import JsonDict

from api.classifying import Classified
from api.errors import ApiError, bad_request
from api.pooling_tasks import Results, Rows, Task, Wanted
from api.protocol.common import ONE_OF_BOTH, InputRequest

POOLING_EXAMPLE: JsonDict = {"model": "default", "task": "token_embed", "input": ["A millpond stores water."]}

CLASSIFY_EXAMPLE: JsonDict = {"model": "default", "input": ["A millpond stores water.", "Rain falls."]}

HEADER_BYTES = 4096
"""The longest header `metadata` that is sent: proxies give all headers of a reply 8 KB together."""

_FORMER_TASKS = {"score": "classify", "reward": "token_classify", "encode": "token_embed", "plugin": None}
"""Tasks that vLLM has or had, and those that took their place."""


class VllmRequest(InputRequest):
    """What vLLM's routes have beyond FastDeploy's."""

    use_activation: StrictBool | None = Field(
        None,
        description="Of scores: false leaves them raw, true makes probabilities of them. Of embeddings: whether they "
        "have length 1. Absent: as the checkpoint says, and probabilities of a classifier.",
    )
    padding: Literal["max_length", "do_not_pad"] | None = Field(
        None, description="Inputs are never padded here: do_not_pad, or absent."
    )
    activation: Any = Field(None, description="The name of use_activation in older versions: refused.")
    softmax: Any = Field(None, description="The name of use_activation in older versions: refused.")

    def check(self) -> None:
        """Raises a 400 for what vLLM knows, and nobody does here."""
        if self.padding == "max_length":
            raise bad_request("padding is max_length, and inputs are never padded here: leave it out.", "padding")
        for field in ("activation", "softmax"):
            if getattr(self, field) is not None:
                raise bad_request(f"{field} is use_activation now: send that.", field)


class PoolingCallRequest(VllmRequest):
    """`POST /pooling`, in two forms: `input` is one to 2,048 inputs, `messages` is one conversation."""

    model_config = ConfigDict(json_schema_extra={"example": POOLING_EXAMPLE, **ONE_OF_BOTH})

    task: Any = Field(
        None,
        description="One embedding or one list of scores for each input, or one for each of its tokens. Absent: what "
        "the model gives.",
        json_schema_extra={"anyOf": [{"enum": list(Task)}, {"type": "null"}]},
    )
    dimensions: StrictInt | None = Field(
        None, ge=1, description="Length of embeddings, where the model can shorten them."
    )
    normalize: StrictBool | None = Field(None, description="Another name of use_activation, for embeddings.")
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = Field(
        "float",
        description="Numbers; base64 of their bytes; or a body of their bytes, with its description in the header "
        "metadata or without it.",
    )
    embed_dtype: Literal["float32", "float16"] = Field("float32", description="The numbers' type in bytes.")
    endianness: Literal["native", "little", "big"] = Field(
        "native", description="The order of a number's bytes; native is little."
    )

    @property
    def wanted_task(self) -> Task | None:
        """The task; None leaves it to the model.

        Raises:
            ApiError: 400, there is none of this name.
        """
        if self.task is None or self.task in list(Task):
            return None if self.task is None else Task(self.task)
        instead = _FORMER_TASKS.get(self.task) if isinstance(self.task, str) else None
        remedy = f"send {instead}" if instead else f"it must be one of {', '.join(Task)}"
        raise bad_request(f"task is {self.task!r}, which is not served: {remedy}.", "task")

    def wanted(self, task: Task) -> Wanted:
        """How inputs are pooled for a task.

        Raises:
            ApiError: 400, the request says two things.
        """
        activate = self.use_activation
        if self.normalize is not None:
            if task not in (Task.EMBED, Task.EMBED_TOKENS):
                raise bad_request("normalize is for embeddings, and these are scores: leave it out.", "normalize")
            if activate not in (None, self.normalize):
                raise bad_request("normalize and use_activation contradict each other: send one of them.", "normalize")
            activate = self.normalize
        return Wanted(task, self.dimensions, activate, self.priority)

    def encoded(self, rows: Rows) -> bytes:
        """Numbers as bytes, row after row.

        Raises:
            ApiError: 400, one is too large for float16.
        """
        order = ">" if self.endianness == "big" else "<"
        if self.embed_dtype == "float32":
            return rows.astype(f"{order}f4").tobytes()
        if rows.size and np.abs(rows).max() > np.finfo(np.float16).max:
            raise bad_request("embed_dtype is float16, and a score is beyond its range: send float32.", "embed_dtype")
        return rows.astype(f"{order}f2").tobytes()


class ClassifyRequest(VllmRequest):
    """`POST /classify`, in two forms: `input` is one to 2,048 inputs, `messages` is one conversation."""

    model_config = ConfigDict(json_schema_extra={"example": CLASSIFY_EXAMPLE, **ONE_OF_BOTH})


class Pooled(BaseModel):
    """What came of one input: a row of numbers, a list of rows, or base64 of them."""

    index: int
    object: Literal["pooling"]
    data: list[float] | list[list[float]] | str


class PoolingReply(BaseModel):
    """What `POST /pooling` answers; `task`, `pooling` and `activation` say what was done."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    task: Task
    pooling: str
    activation: str | None
    data: list[Pooled]
    usage: dict[str, int]


class Classification(BaseModel):
    """What came of one input: the best label, and the scores of all."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassifyReply(BaseModel):
    """What `POST /classify` answers; `activation` says what was applied to the scores."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    activation: str
    data: list[Classification]
    usage: dict[str, int]


class VllmErrorBody(BaseModel):
    """What is wrong: for people, for programs, and in which field."""

    message: str
    type: str
    param: str | None
    code: int


class VllmError(BaseModel):
    """An error in vLLM's form."""

    error: VllmErrorBody


_TYPES = {401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError", 429: "RateLimitError"}


def vllm_error(error: ApiError) -> tuple[int, dict[str, Any]]:
    """vLLM's form: OpenAI's, with the status as its code."""
    kind = "InternalServerError" if error.status >= 500 else _TYPES.get(error.status, "BadRequestError")
    return error.status, {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.status}}


def pooling_response(head: Mapping[str, Any], call: PoolingCallRequest, results: Results) -> bytes:
    """The reply as JSON bytes."""
    base64s = call.encoding_format == "base64"
    data = [
        {
            "index": index,
            "object": "pooling",
            "data": base64.b64encode(call.encoded(rows)).decode() if base64s else rows,
        }
        for index, rows in enumerate(results.rows)
    ]
    return orjson.dumps({**head, "data": data}, option=orjson.OPT_SERIALIZE_NUMPY)


def pooling_bytes(head: Mapping[str, Any], call: PoolingCallRequest, results: Results) -> tuple[bytes, dict[str, str]]:
    """The numbers of all inputs back to back, and the headers that describe them.

    Raises:
        ApiError: 400, the description does not fit a header.
    """
    bodies = [call.encoded(rows) for rows in results.rows]
    if call.encoding_format == "bytes_only":
        return b"".join(bodies), {}
    endianness = "big" if call.endianness == "big" else "little"
    data, start = [], 0
    for index, (rows, body) in enumerate(zip(results.rows, bodies, strict=True)):
        data.append(
            {
                "index": index,
                "embed_dtype": call.embed_dtype,
                "endianness": endianness,
                "start": start,
                "end": start + len(body),
                "shape": list(rows.shape),
            }
        )
        start += len(body)
    told = {name: head[name] for name in ("id", "created", "model", "usage")}
    # Not orjson: a header is ASCII.
    metadata = json.dumps({**told, "data": data})
    if len(metadata) > HEADER_BYTES:
        raise bad_request(
            f"encoding_format is bytes, which describes each input in a header, and {len(data)} do not fit into "
            f"{HEADER_BYTES} bytes: send fewer at once, or ask for bytes_only, base64 or a frame (Accept: "
            "application/octet-stream).",
            "encoding_format",
        )
    return b"".join(bodies), {"metadata": metadata}


def classify_response(head: Mapping[str, Any], found: Classified) -> bytes:
    """The reply as JSON bytes."""
    best = found.scores.argmax(axis=1)
    data = [
        {"index": index, "label": found.labels[best[index]], "probs": scores, "num_classes": len(scores)}
        for index, scores in enumerate(found.scores)
    ]
    body = {**head, "activation": found.activation, "data": data}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
