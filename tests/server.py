"""A whole Millpond, started by its own command line as a user would."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from redis import Redis

GOLDEN = Path(__file__).parent / "golden"
TINY_BERT = GOLDEN / "tiny-bert"


FIRST_PORT, PORTS_OF_A_PROCESS, PROCESSES = 16_000, 2_000, 8
"""All below 32,768, where the kernel takes the ports of connections from: none gets between a choice and its server."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and no other process of the tests chooses from."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % PROCESSES
    first = FIRST_PORT + process * PORTS_OF_A_PROCESS
    ports = range(first, first + PORTS_OF_A_PROCESS)
    found: list[int] = []
    while len(found) < count:
        port = random.choice(ports)
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


class Millpond:
    """A running `millpond` command: its output, its roles' processes, its HTTP address."""

    def __init__(self, command: str, arguments: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.port, self.metrics_port = free_ports(2)
        ports = ["--metrics-port", str(self.metrics_port)]
        if command in ("serve", "api"):
            ports += ["--port", str(self.port)]
        self.data_directory = Path(arguments[arguments.index("--data-dir") + 1]) if "--data-dir" in arguments else None
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", command, *ports, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout:
            for line in self.process.stdout:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self.lines.append("(end of output)")
            self._changed.notify_all()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, seconds: float = 60.0, since: int = 0) -> str:
        """The first line that matches, waited for."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self.lines[since:]:
                    if re.search(pattern, line):
                        return line
                if "(end of output)" in self.lines or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no line matches {pattern!r}:\n{self.output}")

    def role_processes(self, name: str) -> list[psutil.Process]:
        """The living processes of a role: redis, scheduler, workers or api."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                command = " ".join(child.cmdline())
                if "redis-server" in command if name == "redis" else command.endswith(f"-m {name}"):
                    found.append(child)
        return found

    def kill(self, name: str) -> None:
        """Kills the first process of a role, as the kernel would when memory runs out."""
        self.role_processes(name)[0].send_signal(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40.0) -> int:
        """Sends a signal and waits for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def serving(*arguments: str, model: Path | None = TINY_BERT) -> Iterator[Millpond]:
    """`millpond serve` on a data directory of its own, ready for requests; stopped at the end.

    Without a model, the arguments say which. Unless they say how many, there are no processes for jobs, which most
    tests do not need and all would wait for.
    """
    if "--job-workers" not in arguments:
        arguments = ("--job-workers", "0", *arguments)
    # Not pytest's own directory: its path is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        server = Millpond("serve", [*(["--model", str(model)] if model else []), "--data-dir", directory, *arguments])
        try:
            server.wait_for_line("^serving; try")
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()


def redis_of(server: Millpond) -> Redis:
    """A client of a server's embedded Redis."""
    return Redis.from_url(f"unix://{server.data_directory}/redis.sock?db=0")


def client_of(server: Millpond) -> httpx.Client:
    """A plain HTTP client."""
    return httpx.Client(base_url=server.url, timeout=60)
