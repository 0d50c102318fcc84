"""The client of `POST /v1/rows`: it waits out whatever passes, and says plainly what does not."""

import asyncio
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from api.bulk.errors import BulkError
from api.bulk.images import with_files

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0
"""Between two attempts while the server is away or full; doubled each time."""

LONGEST_REPLY_SECONDS = 3_600.0
"""Longer than a server keeps a call (--request-timeout); that the other machine is gone is found by keep-alive."""

FAILURES_OF_A_ROW = 4
"""So often a row alone may be answered with a 500 until it is called bad: something in it breaks the server."""

FAILURES_OF_A_CALL = 3
"""So often a call of many rows may be answered with a 500 until it is divided, to find the row that does it."""

_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
        if hasattr(socket, name)
    ),
]

Entry = Mapping[str, Any]
"""What the route answers for a row: its `error`, or its `tokens` and result."""

Told = Callable[[str | None], None]
"""Is told what is waited for, and None when it is over."""


@dataclass(frozen=True)
class Endpoint:
    """Where the rows are scored.

    Attributes:
        url: of the server, without a path.
        key: with which it lets in; None where it asks for none.
    """

    url: str
    key: str | None = field(repr=False)

    def client(self) -> httpx.AsyncClient:
        """A client that keeps its connections."""
        headers = {"Millpond-Lane": "bulk", "Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        return httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(LONGEST_REPLY_SECONDS, connect=10.0, write=120.0),
            transport=httpx.AsyncHTTPTransport(socket_options=_KEEP_ALIVE, limits=httpx.Limits(max_connections=None)),
        )


class RowsClient:
    """Calls the route for many rows at a time.

    Args:
        http: a client of the server (`Endpoint.client`).
        call: the fields of the request beside its rows.
        told: hears what is waited for.

    Attributes:
        queue_depth: items that wait in the lane, as the server last said; None where it has not.
        pooling: how the model pools, as it last said.
    """

    def __init__(self, http: httpx.AsyncClient, call: Mapping[str, Any], told: Told = lambda _: None) -> None:
        self._http = http
        self._call = dict(call)
        self._told = told
        self.queue_depth: int | None = None
        self.pooling: str | None = None

    async def entries(self, rows: Sequence[bytes]) -> list[Entry]:
        """The route's entries for rows that are JSON already, in their order, however long it takes.

        Raises:
            BulkError: the server refuses the call as such, and will refuse it again.
        """
        failures, pause, waited = 0, FIRST_PAUSE_SECONDS, False
        while True:
            reply, reason = await self._sent(rows)
            if reply is not None and reply.status_code < 500 and reply.status_code not in _PASSING:
                break
            if reply is not None and reply.status_code == 500:
                failures += 1
                if failures >= (FAILURES_OF_A_CALL if len(rows) > 1 else FAILURES_OF_A_ROW):
                    return await self._divided(rows, f"the server fails on it: {_message(reply)}")
            waited = True
            self._told(reason)
            await asyncio.sleep(_pause_of(reply) or pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        if waited:
            self._told(None)
        if reply.status_code == 413:
            return await self._divided(rows, _message(reply))
        if reply.status_code != 200:
            raise BulkError(refusal(reply))
        depth = reply.headers.get("Millpond-Queue-Depth", "")
        self.queue_depth = int(depth) if depth.isdigit() else self.queue_depth
        return self._read(reply, len(rows))

    def _read(self, reply: httpx.Response, count: int) -> list[Entry]:
        try:
            answer = orjson.loads(reply.content)
            found: list[Entry] = answer["data"]
            self.pooling = str(answer["pooling"])
        except (ValueError, KeyError, TypeError):
            found = []
        if len(found) != count:
            raise BulkError(
                f"{self._http.base_url} does not answer as a Millpond of this version ({len(found)} results for "
                f"{count} rows): correct --server."
            )
        return found

    async def _sent(self, rows: Sequence[bytes]) -> tuple[httpx.Response | None, str]:
        """The reply, and what it would mean to wait for; None where there is none."""
        head = orjson.dumps(self._call)
        joint = b"," if self._call else b""
        body = head[:-1] + joint + b'"rows":[' + b",".join(map(with_files, rows)) + b"]}"
        try:
            reply = await self._http.post("/v1/rows", content=body)
        except (httpx.TransportError, OSError) as error:
            return None, f"the server at {self._http.base_url} ({type(error).__name__})"
        return reply, f"the server at {self._http.base_url} ({reply.status_code}: {_message(reply)})"

    async def _divided(self, rows: Sequence[bytes], reason: str) -> list[Entry]:
        """Both halves for themselves; a row alone is the one that is bad."""
        if len(rows) == 1:
            return [{"error": {"message": reason, "type": "server_error", "param": None, "code": None}}]
        half = len(rows) // 2
        return [*await self.entries(rows[:half]), *await self.entries(rows[half:])]


_PASSING = {408, 425, 429}
"""Statuses below 500 that waiting cures."""


def _pause_of(reply: httpx.Response | None) -> float | None:
    """What the server asks to wait, in seconds."""
    asked = reply.headers.get("Retry-After", "") if reply is not None else ""
    return min(float(asked), 300.0) if asked.isdigit() and int(asked) > 0 else None


def refusal(reply: httpx.Response) -> str:
    """A reply that is no result, as a sentence that says what to do."""
    what_to_do = {
        401: "Give the key by --api-key or MILLPOND_API_KEY.",
        403: "Give a key that may do this, by --api-key or MILLPOND_API_KEY.",
        404: "Give --model one that is served, and --server the address of a Millpond.",
    }.get(reply.status_code, "Correct the command.")
    return f"The server refuses: {_message(reply)} {what_to_do}"


def _message(reply: httpx.Response) -> str:
    try:
        message = str(orjson.loads(reply.content)["error"]["message"])
    except (ValueError, TypeError, KeyError):
        message = f"{reply.reason_phrase or 'no reason'}."
    return message if message.endswith((".", "!", "?")) else message + "."
