"""Reads a request's JSON body: bounded in size, strict in form."""

import orjson
from fastapi import Request

from api.errors import ApiError, bad_request
from api.state import state_of


async def read_json(request: Request) -> object:
    """The parsed body, of at most --max-request-bytes.

    Raises:
        ApiError: 413 over the limit, 415 not JSON by its content type, 400 not JSON.
    """
    content_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise ApiError(
            415,
            f"The body is {content_type or 'of no type'}; send JSON with `Content-Type: application/json`.",
            code="unsupported_media_type",
        )
    body = await read_bytes(request)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The body is not JSON: {error}.", code="invalid_json") from error


async def read_bytes(request: Request) -> bytes:
    """The body as it came, of at most --max-request-bytes; raises a 413 over the limit."""
    limit = state_of(request).options.max_request_bytes
    declared = request.headers.get("content-length", "")
    # As floats: Python refuses to read whole numbers of thousands of digits.
    if declared.isascii() and declared.isdigit() and float(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"The body is over the limit of {limit} bytes: send less at once, or raise --max-request-bytes.",
        code="request_too_large",
        headers={"Connection": "close"},
    )
