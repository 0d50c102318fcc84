"""A server between a client and Millpond that refuses the first calls, as a busy one does, and then hands them on."""

import http.client
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

REFUSAL = b'{"error": {"message": "Too busy.", "type": "rate_limit_error", "param": null, "code": "busy"}}'


@dataclass(frozen=True)
class Refusal:
    """A reply that tells a client to come again."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


class Faltering(ThreadingHTTPServer):
    """Listens on loopback; `answered` are the statuses that went back, in order."""

    daemon_threads = True

    def __init__(self, target: str, refusals: Iterable[Refusal]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.refusals = deque(refusals)
        self.answered: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Faltering
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refusals:
            refusal = self.server.refusals.popleft()
            self._answer(refusal.status, {"Content-Type": "application/json", **refusal.headers}, REFUSAL)
            return
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection.request("POST", self.path, body, kept)
        reply = connection.getresponse()
        dropped = {"content-length", "transfer-encoding", "connection", "date", "server"}
        headers = {name: value for name, value in reply.getheaders() if name.lower() not in dropped}
        self._answer(reply.status, headers, reply.read())
        connection.close()

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.server.answered.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing: the checks read `answered`."""


@contextmanager
def faltering(url: str, *refusals: Refusal) -> Iterator[Faltering]:
    """A server that answers each of `refusals` once and then hands calls on to `url`."""
    with Faltering(url, refusals) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
