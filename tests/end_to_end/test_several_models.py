"""Two models behind one server: each by its name, with its own workers, and neither hurt by the other's end."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.pooling.conftest import expected_of
from tests.server import GOLDEN, TINY_BERT, Millpond, client_of, serving

REWARD = GOLDEN / "families" / "qwen2-reward"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    path = tmp_path_factory.mktemp("models") / "models.toml"
    path.write_text(
        f'[models.embedder]\nmodel = "{TINY_BERT}"\naliases = ["text-embedding-3-small"]\n'
        f'[models.judge]\nmodel = "{REWARD}"\nmax_model_len = 40\n'
    )
    with serving("--models-file", str(path), model=None) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Millpond) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


def embed(client: httpx.Client, text: str, model: str | None = None) -> httpx.Response:
    return client.post("/v1/embeddings", json={"input": text, "model": model})


def score(client: httpx.Client, model: str = "judge") -> httpx.Response:
    return client.post("/v1/chat/reward", json={"messages": [5, 6, 7], "model": model})


def test_each_is_listed_with_what_it_does(client: httpx.Client) -> None:
    embedder, judge = client.get("/v1/models").json()["data"]
    assert (embedder["id"], embedder["tasks"], embedder["max_model_len"]) == ("embedder", ["embed"], 64)
    assert (judge["id"], judge["tasks"], judge["max_model_len"], judge["dimensions"]) == ("judge", ["reward"], 40, 1)
    assert (embedder["pooling"], embedder["normalize"], judge["activation"]) == ("MEAN", True, "none")


def test_each_answers_by_its_name_and_the_first_for_who_names_none(client: httpx.Client) -> None:
    expected = next(each for each in expected_of(TINY_BERT) if 0 < len(each.ids_untruncated) < 60 and each.text)
    for name in ("embedder", "text-embedding-3-small", "default", "", None):
        reply = embed(client, expected.text, name)
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"] == "embedder"
        assert np.allclose(reply.json()["data"][0]["embedding"], expected.embedding, atol=1e-5)
    assert score(client).json()["model"] == "judge"


def test_what_a_model_is_not_for_and_a_model_that_is_not_there_are_refused(client: httpx.Client) -> None:
    assert embed(client, "x", "judge").json()["error"]["code"] == "task_not_supported"
    unknown = embed(client, "x", "other")
    assert unknown.status_code == 404
    assert "'embedder', 'text-embedding-3-small', 'judge'" in unknown.json()["error"]["message"]


def test_the_end_of_one_models_worker_does_not_disturb_the_other(server: Millpond, client: httpx.Client) -> None:
    workers = {_model_of(process): process for process in server.role_processes("workers")}
    assert set(workers) == {"embedder", "judge"}
    workers["judge"].send_signal(signal.SIGKILL)
    for _ in range(50):
        began = time.monotonic()
        assert embed(client, "the river").status_code == 200
        assert time.monotonic() - began < 3
    assert score(client).status_code == 200
    assert client.get("/ready").status_code == 200


def _model_of(process: psutil.Process) -> str:
    return process.environ()["MILLPOND_SERVED_MODEL_NAME"]


def test_a_checkpoint_of_several_that_is_wrong_ends_the_start(tmp_path: Path) -> None:
    server = Millpond("serve", ["--model", str(TINY_BERT), "--model", str(tmp_path), "--data-dir", str(tmp_path)])
    assert server.process.wait(30) == 2
    assert str(tmp_path) in server.output
