"""The lines of a batch: those of its input, and those of its output and error files, in OpenAI's form."""

from dataclasses import dataclass
from typing import Any

import orjson

LONGEST_ID = 512
"""Characters of a custom_id."""


class LineError(ValueError):
    """What is wrong with a line of an input.

    Args:
        code: a word for programs, as OpenAI's validation gives it.
        param: the field.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch.

    Attributes:
        custom_id: the caller's name for it, unlike that of any other line.
        body: of the request, JSON bytes.
        model: that it names, if it does.
    """

    custom_id: str
    body: bytes
    model: str | None


def lines_of(data: bytes) -> list[bytes]:
    """The lines of a validated piece of a file, none of which is blank."""
    return [line for line in data.split(b"\n") if line]


def parse_line(data: bytes, endpoint: str) -> Line:
    """A line of an input; raises LineError."""
    if not data.strip():
        raise LineError("invalid_json_line", "The line is blank: leave blank lines out.")
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise LineError("invalid_json_line", f"The line is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise LineError("invalid_json_line", "The line must be a JSON object.")
    custom_id, body = found.get("custom_id"), found.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
        raise LineError("invalid_custom_id", f"custom_id must be a text of 1 to {LONGEST_ID} characters.", "custom_id")
    if found.get("method") != "POST":
        raise LineError("invalid_method", f"method is {found.get('method')!r}; it must be POST.", "method")
    if found.get("url") != endpoint:
        raise LineError(
            "mismatched_url", f"url is {found.get('url')!r}, and the batch's endpoint is {endpoint!r}.", "url"
        )
    if not isinstance(body, dict):
        raise LineError("invalid_body", "body must be a JSON object.", "body")
    model = body.get("model")
    return Line(custom_id, orjson.dumps(body), model if isinstance(model, str) else None)


def reply_line(line_id: str, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """A line of the output, or of the error file where the status is an error's.

    Args:
        body: of the reply, JSON; its very bytes are in the line.
    """
    head = orjson.dumps({"id": line_id, "custom_id": custom_id})[:-1]
    response = orjson.dumps({"status_code": status, "request_id": request_id})[:-1]
    return head + b',"response":' + response + b',"body":' + body + b'},"error":null}\n'


def unanswered_line(line_id: str, custom_id: str, code: str, message: str) -> bytes:
    """A line of the error file for a request that got no reply."""
    error = {"code": code, "message": message}
    return orjson.dumps({"id": line_id, "custom_id": custom_id, "response": None, "error": error}) + b"\n"


def tokens_of(body: bytes) -> tuple[int, int]:
    """Input tokens and all tokens that a reply says it cost, as far as it says."""
    usage: Any = orjson.loads(body)
    usage = usage.get("usage") if isinstance(usage, dict) else None
    if not isinstance(usage, dict):
        return 0, 0
    total = usage.get("total_tokens")
    asked = usage.get("prompt_tokens", total)
    return (asked if type(asked) is int else 0), (total if type(total) is int else 0)
