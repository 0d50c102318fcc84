"""A model divided between two processes serves as one, and a rank that is killed costs no answer."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import eventually
from tests.end_to_end.load import run_with_kill
from tests.pooling.checkpoints import copied, edit_json
from tests.server import GOLDEN, Millpond, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that takes longer texts than its golden."""
    directory = copied(GOLDEN / "families" / "llama", tmp_path_factory.mktemp("model") / "llama")
    edit_json(directory / "config.json", lambda config: config.update(max_position_embeddings=512))
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(model_max_length=512))
    return directory


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Millpond]:
    with serving("--tensor-parallel-size", "2", "--served-model-name", "tiny-bert", model=model) as running:
        yield running


def ranks(server: Millpond) -> list[psutil.Process]:
    """The processes beside the worker that hold the model with it."""
    (worker,) = server.role_processes("workers")
    return [child for child in worker.children() if "pooling.rank" in child.cmdline()]


def test_a_killed_rank_costs_no_answer(server: Millpond) -> None:
    (rank,) = ranks(server)
    (worker,) = server.role_processes("workers")
    said = len(server.lines)
    load = run_with_kill(server, rank.kill)
    assert not [reply for reply in load.replies.values() if isinstance(reply, httpx.HTTPError)]
    # Whoever notices first: who watches the rank, or the sum that waits for it.
    server.wait_for_line("rank (1 ended|0 failed).*: ending its group", since=said)
    server.wait_for_line(r"^workers? ended", since=said)
    assert not worker.is_running()
    server.wait_for_line("^workers? ready", since=said)


def test_a_killed_worker_takes_its_ranks_with_it(server: Millpond) -> None:
    (rank,) = ranks(server)
    said = len(server.lines)
    server.kill("workers")
    eventually(lambda: not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE)
    server.wait_for_line("^workers? ready", since=said)
    (successor,) = ranks(server)
    assert successor.pid != rank.pid


def test_ranks_end_with_the_server(server: Millpond) -> None:
    (rank,) = ranks(server)
    assert server.stop() == 0
    eventually(lambda: not rank.is_running())
