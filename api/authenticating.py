"""The door: no route is reached without a key, unless it is one that says how the server is."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from api.error_replies import error_response
from api.errors import ApiError
from api.keyring import Keyring

OPEN_PATHS = frozenset({"/health", "/ready", "/ping"})
"""For probes, which have no keys. Everything else is closed, what does not exist included: nothing new is forgotten."""


class Authenticating:
    """ASGI middleware: puts the owner of the request's key into its state as `caller`, or answers in the route's place.

    The body of a refused request is not read.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        # A caller is there already where no client is: a stored call is replayed, and its owner is known.
        known = "caller" in scope.get("state", {})
        if scope["type"] == "lifespan" or scope.get("path") in OPEN_PATHS or known:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._keyring.caller_of(presented_keys(scope["headers"]))
        except ApiError as error:
            await error_response(scope, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def presented_keys(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys that a request's headers carry, in the ways in which clients send them."""
    found = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() == b"bearer" and key.strip():
                found.append(key.strip())
        elif name in (b"x-api-key", b"api-key") and value.strip():
            found.append(value.strip())
    return found
