"""A host of images on loopback, and of everything that a host can do instead of sending one."""

import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import unquote

PAUSE = 0.05
"""Seconds between the bytes of a drip."""

CLOSED = b"connection: close\r\n"


class MediaHost(socketserver.ThreadingTCPServer):
    """Serves files by their names, and misbehaves under `/~WORD`.

    `/~redirect/N/NAME` gives a file after N redirects; `/~to/URL` redirects to a URL that is escaped with %.

    Attributes:
        asked: how often each path was asked for.
        heads: the requests as they came.
        reached: the addresses to which connections were made.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("0.0.0.0", 0), _Answering)
        self.port = int(self.server_address[1])
        self.files = files
        self.asked: Counter[str] = Counter()
        self.heads: list[str] = []
        self.reached: list[str] = []
        self.stopping = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path."""
        return f"http://{host}:{self.port}/{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: callers that break off are what this host is for."""


class _Answering(socketserver.StreamRequestHandler):
    server: MediaHost

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline().decode("latin-1").rstrip()) != "":
            lines.append(line)
        path = lines[0].split(" ")[1].lstrip("/")
        self.server.asked[path] += 1
        self.server.heads.append("\n".join(lines))
        self.server.reached.append(self.connection.getsockname()[0])
        word, _, rest = path.partition("/")
        with suppress(OSError):
            if word == "~redirect":
                left, _, target = rest.partition("/")
                self._redirect(f"/~redirect/{int(left) - 1}/{target}" if left != "1" else f"/{target}")
            elif word == "~to":
                self._redirect(unquote(rest))
            elif word in _MISBEHAVIOUR:
                _MISBEHAVIOUR[word](self)
            elif (name := path.partition("?")[0]) in self.server.files:
                self._reply(self.server.files[name])
            else:
                self.wfile.write(b"HTTP/1.1 404 Not Found\r\n" + CLOSED + b"content-length: 0\r\n\r\n")

    def _reply(self, body: bytes, head: bytes = b"", length: int | None = None) -> None:
        size = len(body) if length is None else length
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + CLOSED + head + b"content-length: %d\r\n\r\n" % size + body)

    def _redirect(self, location: str) -> None:
        place = b"location: " + location.encode("latin-1") + b"\r\n"
        self.wfile.write(b"HTTP/1.1 302 Found\r\n" + CLOSED + place + b"content-length: 0\r\n\r\n")

    def _repeat(self, piece: bytes, pause: float = 0.0) -> None:
        """Sends a piece until the other side leaves."""
        while not self.server.stopping.wait(pause) if pause else not self.server.stopping.is_set():
            self.wfile.write(piece)

    def silent(self) -> None:
        self.server.stopping.wait(60)

    def slow_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._repeat(b"x: y\r\n", PAUSE)

    def endless_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._repeat(b"x: " + b"y" * 4_000 + b"\r\n")

    def patience(self) -> None:
        self._repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000)

    def drip(self) -> None:
        self._reply(b"", length=1_000_000)
        self._repeat(b"\x89", PAUSE)

    def endless(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + CLOSED + b"\r\n")
        self._repeat(b"\x89PNG" * 16_384)

    def crumbs(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + CLOSED + b"transfer-encoding: chunked\r\n\r\n")
        self._repeat(b"1\r\nx\r\n" * 10_000)

    def boast(self) -> None:
        self._reply(b"\x89PNG", length=10**12)

    def short(self) -> None:
        self._reply(b"\x89PNG", length=1_000)

    def html(self) -> None:
        self._reply(b"<!doctype html><p>the secret of this page</p>", b"content-type: image/png\r\n")

    def compressed(self) -> None:
        self._reply(b"\x1f\x8b\x08" + b"\0" * 100, b"content-type: image/png\r\ncontent-encoding: gzip\r\n")

    def garbage(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")

    def reset(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-le")

    def empty(self) -> None:
        self._reply(b"")

    def loop(self) -> None:
        self._redirect("/~loop")

    def nowhere(self) -> None:
        self.wfile.write(b"HTTP/1.1 302 Found\r\n" + CLOSED + b"content-length: 0\r\n\r\n")

    def failing(self) -> None:
        self.wfile.write(b"HTTP/1.1 500 No\r\n" + CLOSED + b"content-length: 6\r\n\r\nsecret")

    def partial(self) -> None:
        self.wfile.write(b"HTTP/1.1 206 Partial\r\n" + CLOSED + b"content-length: 4\r\n\r\n\x89PNG")


_MISBEHAVIOUR: Mapping[str, Callable[[_Answering], None]] = {
    "~silent": _Answering.silent,
    "~slow-head": _Answering.slow_head,
    "~endless-head": _Answering.endless_head,
    "~patience": _Answering.patience,
    "~drip": _Answering.drip,
    "~endless": _Answering.endless,
    "~crumbs": _Answering.crumbs,
    "~boast": _Answering.boast,
    "~short": _Answering.short,
    "~html": _Answering.html,
    "~compressed": _Answering.compressed,
    "~garbage": _Answering.garbage,
    "~reset": _Answering.reset,
    "~empty": _Answering.empty,
    "~loop": _Answering.loop,
    "~nowhere": _Answering.nowhere,
    "~failing": _Answering.failing,
    "~partial": _Answering.partial,
}


@contextmanager
def media_host(files: Mapping[str, bytes]) -> Iterator[MediaHost]:
    """A host, running."""
    with MediaHost(files) as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield host
        finally:
            host.stopping.set()
            host.shutdown()
            thread.join(10)
