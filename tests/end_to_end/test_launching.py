"""How Millpond starts, refuses to start, and stops."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import eventually
from tests.end_to_end.load import Load, is_right, right_vectors
from tests.server import TINY_BERT, Millpond, client_of, free_ports, serving


def refused(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """The one sentence with which a command refuses to start."""
    command = [sys.executable, "-m", "api.cli", *arguments]
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert ended.returncode == 2, ended.stderr
    assert time.monotonic() - began < 20
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serv"], "no command 'serv': the commands are serve, api, scheduler, worker"),
        (["serve", "--prot", "1"], "knows no --prot: did you mean --port?"),
        (["serve", "--port", "many"], "--port cannot be 'many'"),
        (["serve", "--port", "70000"], "--port cannot be '70000'.*less than or equal to 65535"),
        (["serve", "--device", "tpu"], "--device cannot be 'tpu'"),
        (["serve", "--dtype", "int3"], "--dtype cannot be 'int3'.*'float32'"),
        (["serve", "--max-num-seqs", "0"], "--max-num-seqs cannot be '0'"),
        (["serve", "--log-format", "xml"], "--log-format cannot be 'xml'"),
        (["worker", "--port", "1"], "knows no --port"),
        (["serve", "--model", "/does/not/exist"], "/does/not/exist"),
        (["serve", "--model", str(TINY_BERT), "--max-model-len", "100000"], "100000"),
        (
            ["api", "--model", str(TINY_BERT), "--redis-url", "redis://127.0.0.1:1"],
            "Redis cannot be reached.*--redis-url",
        ),
        (["api", "--model", str(TINY_BERT), "--redis-url", "http://x"], "--redis-url is not a Redis URL"),
    ],
)
def test_a_wrong_start_ends_with_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    directory = ["--data-dir", str(tmp_path)] if arguments[0] == "serve" else []
    ports = []
    if "--port" not in arguments and arguments[0] in ("serve", "api"):
        port, metrics_port = map(str, free_ports(2))
        ports = ["--port", port, "--metrics-port", metrics_port]
    line = refused(*arguments, *ports, *directory)
    assert re.search(sentence, line), line


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for path in TINY_BERT.rglob("*"):
        if path.is_file():
            copy = tmp_path / "model" / path.relative_to(TINY_BERT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = refused("serve", "--model", str(tmp_path / "model"), "--data-dir", str(tmp_path / "data"))
    assert "model.safetensors" in line


def test_a_taken_port_is_named_with_its_flag(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        free = str(free_ports(1)[0])
        arguments = ["serve", "--model", str(TINY_BERT), "--data-dir", str(tmp_path)]
        assert f"127.0.0.1:{port} cannot be listened on" in refused(*arguments, "--port", port)
        assert "Choose another --metrics-port" in refused(*arguments, "--port", free, "--metrics-port", port)


def test_the_data_directory_is_private_and_a_long_path_is_refused(tmp_path: Path) -> None:
    assert "too long for a Unix socket" in refused("serve", "--data-dir", str(tmp_path / ("long" * 30)))


@pytest.fixture
def server() -> Iterator[Millpond]:
    with serving() as running:
        yield running


def test_a_data_directory_has_one_owner(server: Millpond) -> None:
    assert server.data_directory
    assert server.data_directory.stat().st_mode & 0o777 == 0o700
    line = refused("serve", "--model", str(TINY_BERT), "--data-dir", str(server.data_directory))
    assert f"held by another Millpond (process {server.process.pid})" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_answers_what_was_accepted_and_leaves_nobody_behind(
    server: Millpond, number: signal.Signals
) -> None:
    right = right_vectors(server)
    family = psutil.Process(server.process.pid).children(recursive=True)
    load = Load(server, count=400).start()
    load.wait_until_done(0.2)
    before = set(load.replies)
    began = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - began < 30
    load.finish()
    assert not [process for process in family if process.is_running()]
    after = [reply for number, reply in load.replies.items() if number not in before]
    answered = [reply for reply in after if isinstance(reply, httpx.Response)]
    assert answered, "those who were waiting got their answer"
    for number_, reply in load.replies.items():
        # Whoever came too late could not connect, or met a kept connection at the moment of its closing and knew it at
        # once: nobody was accepted and then forgotten.
        at_once = isinstance(reply, httpx.HTTPError) and load.seconds[number_] < 0.1
        too_late = at_once or isinstance(reply, httpx.ConnectError)
        assert too_late or is_right(reply, load.texts(number_), right), repr(reply)
    assert "Traceback" not in server.output


def test_a_killed_launcher_takes_its_roles_along(server: Millpond) -> None:
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) == 4
    server.stop(signal.SIGKILL)
    eventually(lambda: not [process for process in family if process.is_running()], 40)


def test_roles_run_alone_against_a_shared_redis_and_another_broker(redis_url: str, tmp_path: Path) -> None:
    shared = ["--redis-url", redis_url, "--broker-url", redis_url.replace("db=0", "db=1")]
    model = ["--model", str(TINY_BERT), "--served-model-name", "shared/name"]
    commands = [("scheduler", shared), ("worker", [*shared, *model, "--workers", "2"]), ("api", [*shared, *model])]
    roles = [Millpond(command, arguments) for command, arguments in commands]
    try:
        for role, count in zip(roles, (1, 2, 1), strict=True):
            for number in range(count):
                role.wait_for_line(rf"{number + 1 if count > 1 else ''} ready in")
        with client_of(roles[2]) as client:
            assert client.get("/ready").status_code == 200
            reply = client.post("/v1/embeddings", json={"model": "shared/name", "input": "water"})
            assert reply.status_code == 200
            assert reply.json()["model"] == "shared/name"
            roles[1].stop()
            trouble = eventually(lambda: [r for r in [client.get("/ready")] if r.status_code == 503])[0]
            assert "no worker of shared/name lives" in trouble.json()["error"]["message"]
    finally:
        for role in roles:
            if role.process.poll() is None:
                assert role.stop() == 0
