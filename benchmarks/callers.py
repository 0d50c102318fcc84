"""A caller that costs next to nothing: HTTP/1.1 on a kept connection, so that the server is what is measured."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson


@dataclass(frozen=True)
class Answers:
    """What a group of callers got: the replies' bodies by call, the seconds of each call, and of all together."""

    bodies: list[bytes]
    latencies: list[float]
    seconds: float


class Connection:
    """One kept connection to a server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.headers: dict[str, str] = {}

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connects."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**26))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """The reply's body; raises when its status is not 200."""
        status, content = await self._exchange(path, body, headers or {})
        if status != 200:
            raise RuntimeError(f"{status}: {content[:500]!r}")
        return content

    async def status(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The reply's status."""
        status, _ = await self._exchange(path, body, headers)
        return status

    async def reply(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """The reply's status and its headers, by their names in small letters."""
        status, _ = await self._exchange(path, body, headers)
        return status, self.headers

    async def _exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = (line.decode().partition(": ") for line in lines if line)
        self.headers = {name.lower(): value for name, _, value in pairs}
        status = int(first.split()[1])
        if self.headers.get("transfer-encoding") == "chunked":
            return status, await self._chunks()
        return status, await self._reader.readexactly(int(self.headers["content-length"]))

    async def _chunks(self) -> bytes:
        """A body in chunks, each after its length; one of no length ends it."""
        body = b""
        while length := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(length + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return body

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()


OURS = {"encoding_format": "base64", "truncate_prompt_tokens": -1}


async def call_all(
    port: int,
    calls: Sequence[Sequence[str]],
    callers: int,
    path: str = "/v1/embeddings",
    fields: Mapping[str, object] = OURS,
) -> Answers:
    """Sends every call, by so many callers at once, each sending its next when it has its last answer.

    Args:
        fields: of each call, beside its texts.
    """
    bodies = [b""] * len(calls)
    latencies = [0.0] * len(calls)
    waiting = iter(enumerate(orjson.dumps({"input": call, **fields}) for call in calls))

    async def caller(connection: Connection) -> None:
        for number, body in waiting:
            began = time.perf_counter()
            bodies[number] = await connection.post(path, body)
            latencies[number] = time.perf_counter() - began

    connections = [await Connection.open(port) for _ in range(callers)]
    began = time.perf_counter()
    await asyncio.gather(*(caller(connection) for connection in connections))
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return Answers(bodies, latencies, seconds)
