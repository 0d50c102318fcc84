"""A call without a connection: a stored request goes through its route as if a client had just sent it.

So a job, a batch's line and a call that was turned into a job are answered by the very code, and in the very bytes,
that a synchronous call is.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message

from api.callers import Caller
from api.deadlines import Deadline
from api.errors import ErrorForm
from scheduler.keys import Lane

LANE_HEADER = "Millpond-Lane"

REHEARSAL = "rehearsal"
"""In a request's state: it is only asked whether the request could run. `Rehearsed` is its answer when it could."""

_DROPPED = frozenset({b"content-length", b"server-timing", b"x-request-id", b"date", b"server"})
"""Headers of a reply that say something of this one exchange; those about times are told apart by their beginnings."""

_DROPPED_BEGINNINGS = (b"x-compute-", b"x-total-", b"x-tokenization-", b"x-queue-", b"x-inference-", b"x-ratelimit-")


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it is kept.

    Attributes:
        path: of its route, which it reaches by POST.
        body: its bytes, JSON.
        headers: those that the route looks at beside the body, such as Accept.
        lane: in which its items queue.
    """

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    lane: Lane = Lane.JOB


@dataclass(frozen=True, slots=True)
class Reply:
    """What a route answered.

    Attributes:
        headers: those that belong to the result, such as Content-Type, and to a refusal, such as Retry-After.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """What the body is."""
        return self.headers.get("content-type", "application/octet-stream")


async def replay(app: ASGIApp, call: Call, caller: Caller, deadline: Deadline, request_id: str) -> Reply:
    """The reply of a call's route; cancelled, the call is abandoned as by a client that leaves.

    Args:
        app: the application with its middleware, started.
        caller: whose call it is; no key is asked for.
        request_id: stands for the caller's `X-Request-Id`: the ids that a reply makes up are made of it.
    """
    return await _exchange(app, call, request_id, {"caller": caller, "deadline": deadline})


async def rehearse(
    app: ASGIApp, call: Call, caller: Caller, deadline: Deadline, request_id: str, error_form: ErrorForm | None = None
) -> Reply | None:
    """The refusal that a call would meet before it is queued: by its fields, its lengths, its key. None for none.

    Nothing is queued, and no limit of the key counts it.

    Args:
        error_form: in which the refusal is told, in place of the route's own.
    """
    state: dict[str, object] = {"caller": caller, "deadline": deadline, REHEARSAL: True}
    if error_form is not None:
        state["asked_error_form"] = error_form
    reply = await _exchange(app, call, request_id, state)
    return reply if reply.status >= 400 else None


async def _exchange(app: ASGIApp, call: Call, request_id: str, state: dict[str, object]) -> Reply:
    headers = {
        "content-type": "application/json",
        **call.headers,
        "content-length": str(len(call.body)),
        LANE_HEADER: call.lane,
        "x-request-id": request_id,
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": None,
        "server": None,
        "state": state,
    }
    connection = _Connection(call.body)
    await app(scope, connection.receive, connection.send)
    return connection.reply()


class _Connection:
    """The client's end: sends the body once, never leaves, and keeps what comes back."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []

    async def receive(self) -> Message:
        if self._body is None:
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
        else:
            self._parts.append(message.get("body", b""))

    def reply(self) -> Reply:
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in self._headers
            if name not in _DROPPED and not name.startswith(_DROPPED_BEGINNINGS)
        }
        return Reply(self._status, headers, b"".join(self._parts))
