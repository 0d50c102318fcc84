"""A wrong checkpoint ends `millpond serve` with one sentence that names what is wrong, before anything is served."""

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
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
LONGEST_SECONDS = 60.0

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
    answered: list[int]


class Serving:
    """`millpond serve` with a wrong checkpoint, and what its port answers meanwhile."""

    def __init__(self, wrong: Wrong) -> None:
        # Not pytest's own directory: its path is too long for a socket.
        self._folder = tempfile.TemporaryDirectory(prefix="mp-")
        place = Path(self._folder.name)
        directory = copied(wrong.source, place / "model")
        wrong.damage(directory)
        port, metrics_port = map(str, free_ports(2))
        self._url = f"http://127.0.0.1:{port}/v1/models"
        self._answered: list[int] = []
        self._out, self._err = place / "out", place / "err"
        command = [sys.executable, "-m", "api.cli", "serve", "--model", str(directory), *wrong.options]
        command += ["--data-dir", str(place), "--port", port, "--metrics-port", metrics_port]
        self._began = time.monotonic()
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(command, stdout=out, stderr=err)

    def ended(self) -> Ended | None:
        """How it ended, or None while it runs; then its port has been asked once."""
        seconds = time.monotonic() - self._began
        if seconds > LONGEST_SECONDS:
            self._process.kill()
        try:
            status = self._process.wait(0.02)
        except subprocess.TimeoutExpired:
            self._ask()
            return None
        said, output = self._err.read_text(), self._out.read_text()
        self._folder.cleanup()
        # The log has its time in front of each line.
        sentences = [line for line in said.splitlines() if not re.match(r"\d\d:\d\d:\d\d \w+ +INFO ", line)]
        return Ended(status, sentences, output + said, seconds, self._answered)

    def _ask(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=0.2) as reply:
                self._answered.append(reply.status)
        except urllib.error.HTTPError as error:
            self._answered.append(error.code)
        except OSError:
            pass


class AllServings:
    """Every wrong checkpoint, served a few at a time: starting a process is the slow part."""

    def __init__(self) -> None:
        self._waiting = list(WRONG)
        self._running: dict[str, Serving] = {}
        self._ended: dict[str, Ended] = {}

    def ended(self, name: str) -> Ended:
        """How serving one of them ended, waited for."""
        if name in self._waiting:
            self._waiting.remove(name)
            self._waiting.insert(0, name)
        while name not in self._ended:
            while self._waiting and len(self._running) < AT_ONCE:
                following = self._waiting.pop(0)
                self._running[following] = Serving(WRONG[following])
            for running, serving in list(self._running.items()):
                if ended := serving.ended():
                    self._ended[running] = ended
                    del self._running[running]
        return self._ended[name]

    def finish(self) -> None:
        """Waits for those that were started ahead."""
        self._waiting.clear()
        for name in list(self._running):
            self.ended(name)


@pytest.fixture(scope="module")
def servings() -> Iterator[AllServings]:
    found = AllServings()
    yield found
    found.finish()


@pytest.mark.parametrize("name", WRONG)
def test_serving_ends_with_one_sentence_before_anything_is_served(name: str, servings: AllServings) -> None:
    ended = servings.ended(name)
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
