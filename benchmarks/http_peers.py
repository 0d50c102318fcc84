"""Other servers of the same model, each in an environment of its own, asked over HTTP by the same callers as Millpond.

`make .venv-infinity/installed .venv-ray/installed` makes the environments. Both run with their own defaults.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 180.0
CALLER_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class HttpPeer:
    """A server: the path that it answers at, and how it is started for a model on a port.

    Attributes:
        fields: of each call, beside the texts.
    """

    path: str
    command: Callable[[Path, int], list[str]]
    fields: Mapping[str, str]


def _infinity(model: Path, port: int) -> list[str]:
    server = [".venv-infinity/bin/infinity_emb", "v2", "--engine", "torch", "--device", "cpu"]
    return [*server, "--model-id", str(model), "--served-model-name", "measured", "--port", str(port)]


def _ray_serve(model: Path, port: int) -> list[str]:
    return [".venv-ray/bin/python", "benchmarks/ray_serve_peer.py", str(model), str(port)]


HTTP_PEERS = {
    "infinity": HttpPeer("/embeddings", _infinity, {"model": "measured"}),
    "ray-serve": HttpPeer("/embeddings", _ray_serve, {}),
}


@contextmanager
def started(peer: HttpPeer, model: Path) -> Iterator[int]:
    """The port at which it listens, until the end of the block.

    Raises:
        RuntimeError: it ended, or was not there in time.
    """
    port = _free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        peer.command(model, port), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{' '.join(peer.command(model, port))} did not start")
            time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), CALLER_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True
