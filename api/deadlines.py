"""Until when a caller waits: its call is answered 504 then, wherever on its way it is."""

import asyncio
import re
import time
from dataclasses import dataclass
from typing import cast

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_replies import error_response
from api.errors import ApiError, bad_request
from api.timings import Timings

DEADLINE_HEADER = "Millpond-Deadline-Ms"

_WHOLE_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Deadline:
    """When a request's caller stops waiting: seconds from its head, and what said so."""

    seconds: float
    origin: str

    @classmethod
    def of(cls, headers: Headers, timeout: float) -> "Deadline":
        """The earlier of the caller's own and the server's.

        Raises:
            ApiError: 400, the header is wrong.
        """
        given = headers.get(DEADLINE_HEADER)
        if given is None:
            return cls(timeout, "--request-timeout")
        if not (_WHOLE_NUMBER.fullmatch(given) and int(given)):
            raise bad_request(
                f"{DEADLINE_HEADER} is {given!r}; it must be a whole number of milliseconds, from 1 to 999999999.",
                DEADLINE_HEADER,
            )
        seconds = int(given) / 1000
        return cls(seconds, DEADLINE_HEADER) if seconds < timeout else cls(timeout, "--request-timeout")

    def left(self, timings: Timings) -> float:
        """Seconds until then; none when it has passed."""
        return max(0.0, self.seconds - (time.perf_counter() - timings.began))

    def passed(self) -> ApiError:
        """The 504 for a call that is not answered by then."""
        return ApiError(
            504, f"There was no result within {self.seconds:g} seconds ({self.origin}).", code="deadline_exceeded"
        )


def deadline_of(request: Request) -> Deadline:
    """The deadline of a call, from a route."""
    return cast("Deadline", request.state.deadline)


class Punctual:
    """ASGI middleware: answers a call in the route's place when its deadline passes before the reply has begun.

    What the route waits for is cancelled: the rest of the body, a chat template, tokens, results. So nothing that is
    slow can keep a caller longer. Only calls that bring a body have a deadline; `/ready` has a patience of its own.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self._app = app
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            # A call that is replayed brings its deadline along.
            deadline = scope["state"].get("deadline") or Deadline.of(Headers(scope=scope), self._timeout)
        except ApiError as error:
            await error_response(scope, error)(scope, receive, send)
            return
        scope["state"]["deadline"] = deadline
        patience = asyncio.timeout(deadline.left(scope["state"]["timings"]))

        async def send_in_time(message: Message) -> None:
            # What has begun goes on, however slowly its caller reads.
            if not patience.expired():
                patience.reschedule(None)
            await send(message)

        try:
            async with patience:
                await self._app(scope, receive, send_in_time)
        except TimeoutError:
            if not patience.expired():
                raise
            await error_response(scope, deadline.passed())(scope, receive, send)
