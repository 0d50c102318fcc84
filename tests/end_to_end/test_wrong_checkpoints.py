"""A wrong checkpoint ends `millpond serve` with one sentence that names what is wrong, before anything is served."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from api.cli import main
from tests.pooling.checkpoints import copied, edit_json, read_safetensors, write_safetensors
from tests.pooling.test_checkpoint import make_git_lfs_pointer, shard, shorten
from tests.server import GOLDEN, TINY_BERT, free_ports

AT_ONCE = 2
SECONDS = 10.0

DENSE = GOLDEN / "families" / "embedding-gemma"
DECODER = GOLDEN / "families" / "qwen3"
TENSOR = "encoder.layer.1.attention.self.key.weight"


@dataclass(frozen=True)
class Wrong:
    """A checkpoint that is damaged, or that does not fit the options.

    Attributes:
        names: what the sentence must have: files, tensors, options, values.
        damage: what is done to a copy of the checkpoint.
        seen_by_inspect: whether it shows without the classes of the models.
    """

    names: tuple[str, ...]
    damage: Callable[[Path], None] = lambda directory: None
    source: Path = TINY_BERT
    options: tuple[str, ...] = ()
    seen_by_inspect: bool = True


def tensors(change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]) -> Callable[[Path], None]:
    """Rewrites the weights."""

    def damage(directory: Path) -> None:
        path = directory / "model.safetensors"
        write_safetensors(path, change(read_safetensors(path)))

    return damage


def setting(file: str, **values: object) -> Callable[[Path], None]:
    """Changes values of a JSON object; None takes them away."""

    def change(config: dict[str, object]) -> None:
        config.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del config[name]

    return lambda directory: edit_json(directory / file, change)


def without_a_shard(directory: Path) -> None:
    shard(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()


def spoilt(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).write_text('{"architectures": [') and None


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def without(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).unlink()


def foreign_tokenizer(directory: Path) -> None:
    edit_json(directory / "config.json", lambda config: config.update(vocab_size=20))


def pooler(**fields: object) -> tuple[str, ...]:
    return ("--pooler-config", json.dumps(fields))


WRONG = {
    "truncated weights": Wrong(
        ("model/model.safetensors", "download it again"), lambda path: shorten(path / "model.safetensors")
    ),
    "a missing shard": Wrong(("model/model-00002-of-00002.safetensors", "is missing"), without_a_shard),
    "no weights": Wrong(
        ("model holds neither model.safetensors",), without("model.safetensors"), seen_by_inspect=False
    ),
    "a pointer of git-lfs": Wrong(
        ("model/model.safetensors", "git lfs pull"), lambda path: make_git_lfs_pointer(path / "model.safetensors")
    ),
    "pickled weights": Wrong(("model/pytorch_model.bin is a pickle", "save_file("), pickled),
    "a tensor of the wrong shape": Wrong(
        ("model/model.safetensors", TENSOR, "[7, 5]", "[48, 48]"),
        tensors(lambda whole: whole | {TENSOR: np.zeros((7, 5))}),
        seen_by_inspect=False,
    ),
    "a missing tensor": Wrong(
        ("/model", TENSOR),
        tensors(lambda whole: {name: tensor for name, tensor in whole.items() if name != TENSOR}),
        seen_by_inspect=False,
    ),
    "a surplus tensor": Wrong(
        ("/model", "encoder.layer.3.output.dense.bias", "[48]"),
        tensors(lambda whole: whole | {"encoder.layer.3.output.dense.bias": np.zeros(48)}),
        seen_by_inspect=False,
    ),
    "weights of another size than config.json": Wrong(
        ("model.safetensors", "layers.0.mlp.", "99"),
        setting("config.json", intermediate_size=99),
        DECODER,
        seen_by_inspect=False,
    ),
    "no architectures": Wrong(("model/config.json has no architectures",), setting("config.json", architectures=None)),
    "an unknown architecture": Wrong(
        ("model/config.json", "GPT2LMHeadModel", "ModernBert", "docs/add-a-model-family.md"),
        setting("config.json", architectures=["GPT2LMHeadModel"]),
    ),
    "no config.json": Wrong(("model/config.json is missing",), without("config.json")),
    "a broken config.json": Wrong(("model/config.json is not valid JSON",), spoilt("config.json")),
    "a broken tokenizer.json": Wrong(("model/tokenizer.json is not valid JSON",), spoilt("tokenizer.json")),
    "the tokenizer of another model": Wrong(("model/tokenizer.json makes token ids", "20"), foreign_tokenizer),
    "an unknown pooling type in modules.json": Wrong(
        ("model/1_Pooling/config.json", "max", "not supported"),
        setting("1_Pooling/config.json", pooling_mode="max"),
    ),
    "a Dense module without weights": Wrong(
        ("model/2_Dense holds neither model.safetensors",), without("2_Dense/model.safetensors"), DENSE
    ),
    "a Dense module that does not fit": Wrong(
        ("model/2_Dense/config.json", "in_features = 7"), setting("2_Dense/config.json", in_features=7), DENSE
    ),
    "an unknown pooling type in the option": Wrong(
        ("--pooler-config has pooling_type = 'MAX'", "LAST, ALL, CLS, MEAN, STEP"), options=pooler(pooling_type="MAX")
    ),
    "STEP without a tag id": Wrong(
        ("STEP", "step_tag_id in --pooler-config"),
        source=DECODER,
        options=pooler(pooling_type="STEP", returned_token_ids=[5, 6]),
    ),
    "dimensions that are too large": Wrong(
        ("--pooler-config asks for 49 dimensions", "48"), options=pooler(dimensions=49)
    ),
    "a length that is too large": Wrong(("--max-model-len 65", "64"), options=("--max-model-len", "65")),
    "a malformed option": Wrong(("--pooler-config is not valid JSON",), options=("--pooler-config", "{normalize: 1}")),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    sentences: list[str]
    output: str
    seconds: float
    answered: list[str]


class Asking:
    """Asks a port again and again, and keeps what it answers."""

    def __init__(self, port: int) -> None:
        self.answered: list[str] = []
        self._url = f"http://127.0.0.1:{port}/v1/models"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._ended.wait(0.05):
            try:
                with urllib.request.urlopen(self._url, timeout=1.0) as reply:
                    self.answered.append(f"{reply.status}")
            except urllib.error.HTTPError as error:
                self.answered.append(f"{error.code}")
            except OSError:
                pass

    def stop(self) -> list[str]:
        self._ended.set()
        self._thread.join()
        return self.answered


def serve(wrong: Wrong) -> Ended:
    # Not pytest's own directory: its path is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        directory = copied(wrong.source, Path(name) / "model")
        wrong.damage(directory)
        port, metrics_port = free_ports(2)
        command = [sys.executable, "-m", "api.cli", "serve", "--model", str(directory), *wrong.options]
        command += ["--data-dir", name, "--port", str(port), "--metrics-port", str(metrics_port)]
        asking = Asking(port)
        began = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        seconds = time.monotonic() - began
        # The log has its time in front of each line.
        sentences = [line for line in ended.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d \w+ +INFO ", line)]
        return Ended(ended.returncode, sentences, ended.stdout + ended.stderr, seconds, asking.stop())


@pytest.fixture(scope="module")
def runs() -> Iterator[Mapping[str, "Future[Ended]"]]:
    """Every wrong checkpoint being served, a few at a time: starting a process is the slow part."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {name: threads.submit(serve, wrong) for name, wrong in WRONG.items()}


@pytest.mark.parametrize("name", WRONG)
def test_serving_ends_with_one_sentence_before_anything_is_served(
    name: str, runs: Mapping[str, "Future[Ended]"]
) -> None:
    ended = runs[name].result()
    assert ended.status == 2, ended.output
    assert len(ended.sentences) == 1, ended.output
    for part in WRONG[name].names:
        assert part in ended.sentences[0]
    assert ended.seconds < SECONDS
    assert not ended.answered
    assert "serving" not in ended.output


@pytest.mark.parametrize("name", WRONG)
def test_inspecting_says_the_same_where_it_can_know(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = WRONG[name]
    directory = copied(wrong.source, tmp_path / "model")
    wrong.damage(directory)
    monkeypatch.setattr(sys, "argv", ["millpond", "inspect", str(directory), *wrong.options])
    status, said = main(), capsys.readouterr().err
    if not wrong.seen_by_inspect:
        assert (status, said) == (0, "")
        return
    assert status == 2
    (line,) = said.splitlines()
    for part in wrong.names:
        assert part in line
