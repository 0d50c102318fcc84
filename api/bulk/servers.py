"""The servers that a bulk command starts for itself: a Millpond where none is given, else a Redis to carry Celery."""

import asyncio
import contextlib
import fcntl
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redis.exceptions import RedisError

from api import embedded_redis
from api.bulk.errors import BulkError
from api.options import BULK, ENVIRONMENT_PREFIX, SERVE, Options, shown
from api.supervisor import Role
from scheduler.connection import connect_async

SERVER_LOG = "server.log"

SERVER_STOP_SECONDS = 8.0
"""When it is stopped nobody waits for an answer, and nothing of what it holds is needed again."""

_PROBE_SECONDS = 0.1


def temporary_directory(backfill_id: str) -> Path:
    """A new directory whose path is short enough for a Unix socket. Those that killed runs left are removed."""
    prefix = f"mp-{backfill_id}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix))


def _is_abandoned(directory: Path) -> bool:
    """Whether no server holds it: see `_Launch._data_directory`."""
    try:
        with (directory / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class OwnServer:
    """A Millpond for one run.

    Attributes:
        options: how its model is served.
        directory: for its data.
        log: where its output goes.
        key: what it asks for.
        ports: of its api and its metrics.
    """

    options: Options
    directory: Path
    log: Path
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    ports: tuple[int, int] = field(default_factory=lambda: _free_ports())

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def redis_url(self) -> str:
        """Its Redis, which carries Celery too."""
        return embedded_redis.server_url(self.directory, None)

    def role(self) -> Role:
        """The program to keep running."""
        port, metrics_port = map(str, self.ports)
        own = ["--host", "127.0.0.1", "--port", port, "--metrics-port", metrics_port, "--data-dir", str(self.directory)]
        return Role(
            name="server",
            command=[sys.executable, "-m", "api.cli", SERVE, *own, "--job-workers", "0"],
            environment={**self._environment(), "MILLPOND_API_KEY": self.key},
            stop_seconds=SERVER_STOP_SECONDS,
            probe=self._ready,
            log=self.log,
        )

    def _environment(self) -> dict[str, str]:
        """Only what the command takes is said to it; what else the user's environment says is for other servers."""
        told = self.options.environment()
        variables = {name: ENVIRONMENT_PREFIX + name.upper() for name in Options.model_fields}
        return {
            variable: told.get(variable, "") if set(BULK) <= set(shown(name).commands) else ""
            for name, variable in variables.items()
        }

    async def _ready(self) -> str:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=5.0) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/v1/models")).status_code == 200:
                        return self.url
                await asyncio.sleep(_PROBE_SECONDS)

    def reason(self) -> str:
        """The last thing that it said: why it did not start."""
        lines: Sequence[str] = []
        with contextlib.suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").split("\n")
        return next((line.removeprefix("millpond: ") for line in reversed(lines) if line.strip()), "its log is empty.")


@dataclass(frozen=True)
class OwnBroker:
    """A Redis for one run, to carry Celery; nothing in it is needed again."""

    directory: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return embedded_redis.server_url(self.directory, None)

    def role(self) -> Role:
        """The program to keep running; raises LaunchError where there is none on this machine."""
        server, version = embedded_redis.find_server()
        command = embedded_redis.server_command(server, self.directory, on_disk=False)

        async def probe() -> str:
            redis = connect_async(self.url)
            while True:
                try:
                    await redis.ping()
                except (RedisError, OSError):
                    await asyncio.sleep(_PROBE_SECONDS)
                else:
                    await redis.aclose()
                    return version

        return Role("redis", command, stop_seconds=2.0, probe=probe, log=self.directory / "redis.out")


def _free_ports() -> tuple[int, int]:
    """Two ports of this machine on which nobody listens."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            return int(one.getsockname()[1]), int(other.getsockname()[1])
    except OSError as error:
        raise BulkError(f"No port of 127.0.0.1 can be listened on: {error.strerror}.") from error
