"""What every error over HTTP must look like."""

import httpx


def checked(reply: httpx.Response, status: int) -> dict[str, str | None]:
    """The error of a reply, in OpenAI's shape."""
    assert reply.status_code == status, reply.text
    error: dict[str, str | None] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert error["code"]
    return error
