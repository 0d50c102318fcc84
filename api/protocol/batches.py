"""OpenAI's batches, as its clients read and write them."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictStr
from pydantic.config import JsonDict

from api.errors import bad_request
from api.protocol.common import WireRequest
from api.protocol.files import checked_life

EXAMPLE: JsonDict = {"input_file_id": "file-abc", "endpoint": "/v1/embeddings", "completion_window": "24h"}

MOST_METADATA, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512

_WINDOW = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class BatchRequest(WireRequest):
    """`POST /v1/batches`."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    input_file_id: StrictStr = Field(..., description="The file with one request a line.")
    endpoint: StrictStr = Field(..., description="The route that every line is for.")
    completion_window: StrictStr = Field(..., description="24h, or any number of s, m, h or d.")
    metadata: Any = Field(None, description="Up to 16 texts by name, which come back with the batch.")
    output_expires_after: Any = Field(None, description="`anchor` created_at and `seconds`: when its files go.")
    webhook: Any = Field(None, description="Where the end of the batch is told: a URL, or `url` and `secrets`.")

    @property
    def window_seconds(self) -> int:
        """For how long the batch may take; raises a 400 for another form."""
        found = _WINDOW.fullmatch(self.completion_window)
        if found is None:
            raise bad_request(
                f"completion_window is {self.completion_window!r}; it must be 24h, or another number of s, m, h or d.",
                "completion_window",
            )
        return int(found[1]) * _UNITS[found[2]]

    @property
    def output_life(self) -> int:
        """Seconds that its output lives; raises a 400."""
        given = self.output_expires_after
        if given is None:
            return checked_life(None, None)
        if not isinstance(given, dict):
            raise bad_request("output_expires_after must be an object with anchor and seconds.", "output_expires_after")
        return checked_life(given.get("anchor"), given.get("seconds"), "output_expires_after")

    def checked_metadata(self) -> dict[str, str] | None:
        """The metadata; raises a 400 that names the limit it is over."""
        if self.metadata is None:
            return None
        if not isinstance(self.metadata, dict) or not all(isinstance(each, str) for each in self.metadata.values()):
            raise bad_request("metadata must be an object of texts.", "metadata", "invalid_type")
        if len(self.metadata) > MOST_METADATA:
            raise bad_request(f"metadata has {len(self.metadata)} entries; {MOST_METADATA} is the most.", "metadata")
        for name, value in self.metadata.items():
            if len(name) > LONGEST_KEY or len(value) > LONGEST_VALUE:
                raise bad_request(
                    f"metadata: a name has at most {LONGEST_KEY} characters, and a value {LONGEST_VALUE}.", "metadata"
                )
        return self.metadata


class LineError(BaseModel):
    """What is wrong with a batch's input."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class LineErrors(BaseModel):
    """What is wrong with a batch's input, as far as it was read."""

    object: Literal["list"] = "list"
    data: list[LineError]


class Counts(BaseModel):
    """Lines by what became of them."""

    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    """OpenAI's details of input tokens."""

    cached_tokens: int = 0


class OutputDetails(BaseModel):
    """OpenAI's details of output tokens."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """The tokens of all lines that were completed."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


class BatchObject(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: LineErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """A page of batches."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_object(batch_id: str, found: Mapping[bytes, bytes]) -> BatchObject:
    """A batch as clients read it, from its hash."""
    text = {name.decode(): value.decode() for name, value in found.items() if name != b"webhook"}

    def number(name: str) -> int:
        return int(text.get(name) or 0)

    errors, metadata = text.get("errors"), text.get("metadata")
    return BatchObject(
        id=batch_id,
        endpoint=text["endpoint"],
        model=text.get("model") or None,
        errors=LineErrors(data=orjson.loads(errors)) if errors else None,
        input_file_id=text["input"],
        completion_window=text["window"],
        status=text["status"],  # type: ignore[arg-type]  # pydantic checks it
        output_file_id=text.get("output_file") or None,
        error_file_id=text.get("error_file") or None,
        created_at=number("created"),
        expires_at=number("expires"),
        request_counts=Counts(total=number("total"), completed=number("completed"), failed=number("failed")),
        usage=BatchUsage(input_tokens=number("tokens"), total_tokens=number("tokens")),
        metadata=orjson.loads(metadata) if metadata else None,
        **{name: number(name) or None for name in TIMES},  # type: ignore[arg-type]
    )
