"""Receivers on loopback that do as they are told, and a hand that puts webhooks into the outbox."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files

from redis.asyncio import Redis

from scheduler.keys import JOBS
from scheduler.webhooks import Webhook

SOURCE = "".join((files("scheduler") / "lua" / f"{name}.lua").read_text() for name in ("prelude", "outbox"))


async def post(redis: Redis, *webhooks: Webhook) -> None:
    """Hands webhooks in, as the steps do that end something."""
    for each in webhooks:
        await redis.eval(SOURCE + "post_webhook(ARGV[1], ARGV[2])", 1, JOBS, JOBS, each.encode())


@dataclass(frozen=True)
class Delivery:
    """A request that came."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """An HTTP server that keeps what it gets.

    Attributes:
        answer: bytes that are sent back, by the number of the request from 0 on; None: nothing ever is.
    """

    answer: Callable[[int], bytes | None]
    port: int = 0
    got: list[Delivery] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Receiver"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.got.append(Delivery(head[0].split()[1], headers, body))
            answer = self.answer(len(self.got) - 1)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side left
        finally:
            self.open -= 1
            writer.close()


def answering(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole reply, after which the connection closes."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Returns when the condition holds; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
