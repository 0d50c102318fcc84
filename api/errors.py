"""Every error of the api, and the forms in which dialects tell them; `error_replies.py` makes them HTTP replies.

The commands' errors are here too, so this loads no web framework: `millpond --help` would wait for it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal


class LaunchError(Exception):
    """Why Millpond cannot start, as one sentence that says what to do."""


class Rehearsed(Exception):  # noqa: N818 - good news, though it ends the call
    """Raised where a rehearsed call would be queued: all that can be checked before has been checked."""


LONGEST_MESSAGE = 2_000
"""Characters. Messages repeat what is wrong, and that may be megabytes."""


class ApiError(Exception):
    """A reply to a caller that is not a result.

    Args:
        status: the HTTP status.
        message: one sentence or two for people: the field, the limit, what to do. Of a very long one the middle is
            left out.
        param: the field of the request that is wrong, if one is.
        code: a word for programs.
        headers: further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[: LONGEST_MESSAGE // 2]} [...] {message[-LONGEST_MESSAGE // 2 :]}"
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers


Reason = Literal["lane_full", "key_full", "deadline", "tokens_per_minute", "concurrency", "too_large", "images_full"]


class RefusedError(ApiError):
    """A call that is right in itself and was not let in: the queue is full, or its key's limits are reached.

    Args:
        reason: which bound it met, for the metrics; the rest is as of `ApiError`.
    """

    def __init__(self, reason: Reason, status: int, message: str, **details: Any) -> None:
        super().__init__(status, message, **details)
        self.reason = reason


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A 400 about one field of the request."""
    return ApiError(400, message, param=param, code=code)


def overloaded(message: str, retry_after_seconds: int) -> ApiError:
    """A 503 that says when to come back."""
    return ApiError(503, message, code="unavailable", headers={"Retry-After": str(retry_after_seconds)})


def not_durable(error: Exception) -> ApiError:
    """A 503 for what a Redis without an append-only file would lose."""
    return ApiError(503, str(error), code="queue_not_durable")


_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

ErrorForm = Callable[[ApiError], tuple[int, dict[str, Any]]]
"""How a dialect tells an error: the HTTP status and the body."""


def openai_error(error: ApiError) -> tuple[int, dict[str, Any]]:
    """OpenAI's form: `{"error": {message, type, param, code}}`."""
    kind = "server_error" if error.status >= 500 else _TYPES.get(error.status, "invalid_request_error")
    return error.status, {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def internal_error() -> ApiError:
    """The 500 for what nobody foresaw."""
    return ApiError(500, "Something failed inside Millpond; its log says what.", code="internal")
