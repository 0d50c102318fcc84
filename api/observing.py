"""The outermost layer of the HTTP server: request ids in and out, and how long each request took, and on what."""

import logging
import re
import time
import uuid

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_replies import error_response
from api.errors import internal_error
from api.timings import Timings

log = logging.getLogger(__name__)

REQUESTS = Counter("millpond_requests_total", "HTTP requests.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "millpond_request_seconds",
    "Seconds from a request's head to its reply.",
    ["route"],
    buckets=[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300],
)

_GOOD_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Observing:
    """ASGI middleware. A caller's `X-Request-Id` is kept when it is printable and short, else a new one is made."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timings = Timings()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        state = scope.setdefault("state", {})
        state["request_id"], state["timings"] = request_id.decode(), timings
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *timings.headers()]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except Exception:
            log.exception("%s %s failed, request %s", scope["method"], scope["path"], request_id.decode())
            if status:  # its reply has begun: it can only be broken off
                raise
            await error_response(scope, internal_error())(scope, receive, send_marked)
        finally:
            # A path that no route matched is the caller's invention: it must not become a label.
            route = getattr(scope.get("route"), "path", "unknown")
            REQUESTS.labels(route, str(status)).inc()
            REQUEST_SECONDS.labels(route).observe(time.perf_counter() - timings.began)
            timings.observe()
