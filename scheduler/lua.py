"""The atomic steps of the queue: Lua files, each headed by its keys, arguments and reply, and how they are called."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgpack
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an atomic step: the name of its Lua file, its keys and its arguments.

    `shared` names the Lua files that are put before it.
    """

    name: str
    keys: Sequence[str]
    arguments: Sequence[Argument]
    shared: tuple[str, ...] = ("prelude",)

    async def run(self, redis: AsyncRedis) -> Any:
        """Its reply, from an event loop."""
        digest, source = _script(self.name, self.shared)
        try:
            return await redis.evalsha(digest, len(self.keys), *self.keys, *self.arguments)
        except NoScriptError:
            return await redis.eval(source, len(self.keys), *self.keys, *self.arguments)

    def add_to(self, pipeline: Any, *, with_source: bool) -> None:
        """Puts it into a pipeline: by its digest, or with its source for a server that does not know it yet."""
        digest, source = _script(self.name, self.shared)
        if with_source:
            pipeline.eval(source, len(self.keys), *self.keys, *self.arguments)
        else:
            pipeline.evalsha(digest, len(self.keys), *self.keys, *self.arguments)

    def run_blocking(self, redis: Redis) -> Any:
        """Its reply, from a thread."""
        digest, source = _script(self.name, self.shared)
        try:
            return redis.evalsha(digest, len(self.keys), *self.keys, *self.arguments)
        except NoScriptError:
            return redis.eval(source, len(self.keys), *self.keys, *self.arguments)


def packed(rows: Sequence[Any]) -> bytes:
    """Many values as one argument, for `cmsgpack.unpack`: each argument by itself costs the client microseconds.

    Texts and bytes are the same to Lua, and Redis 6 knows the older form of both only.
    """
    found: bytes = msgpack.packb(rows, use_bin_type=False)
    return found


@cache
def _script(name: str, shared: tuple[str, ...]) -> tuple[str, str]:
    """The SHA-1 by which Redis knows a script, and its source."""
    folder = files("scheduler") / "lua"
    source = "".join((folder / f"{each}.lua").read_text() for each in (*shared, name))
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), source
