"""A broken checkpoint is refused before anything is loaded, by a message that names the file."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pooling.checkpoint import verify_checkpoint, weight_files
from pooling.errors import AbsentWeightsError, CheckpointError
from tests.pooling.checkpoints import copied, read_safetensors, write_safetensors
from tests.pooling.conftest import GOLDEN, TINY_BERT

TORCH_PYTHON = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"

PICKLE = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
directory, shards = Path(sys.argv[1]), int(sys.argv[2])
tensors = load_file(directory / "model.safetensors")
(directory / "model.safetensors").unlink()
tensors["second.name"] = next(iter(tensors.values()))
names = sorted(tensors)
for number in range(shards):
    name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-0000{number + 1}-of-0000{shards}.bin"
    torch.save({name: tensors[name] for name in names[number::shards]}, directory / name)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(TINY_BERT, tmp_path / "model")


def test_a_whole_checkpoint_is_accepted(directory: Path) -> None:
    verify_checkpoint(directory)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 4)


def cut_within_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"shape"', b'"shape}', 1))


def make_git_lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 293176\n")


def make_list(path: Path) -> None:
    path.write_text("[1]")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", shorten, "header promises"),
        ("model.safetensors", lengthen, "header promises"),
        ("model.safetensors", cut_within_header, "cut off"),
        ("model.safetensors", empty, "cut off"),
        ("model.safetensors", spoil_header, "no valid safetensors header"),
        ("model.safetensors", make_git_lfs_pointer, "git lfs pull"),
        ("tokenizer.json", make_git_lfs_pointer, "git lfs pull"),
        ("config.json", shorten, "not valid JSON"),
        ("tokenizer.json", cut_within_header, "not valid JSON"),
        ("config.json", make_list, "an object belongs"),
        ("config.json", Path.unlink, "is missing"),
        ("tokenizer.json", Path.unlink, "is missing"),
        ("model.safetensors", Path.unlink, "neither model.safetensors"),
    ],
)
def test_a_damaged_file_is_named(directory: Path, name: str, damage: Callable[[Path], None], message: str) -> None:
    damage(directory / name)
    with pytest.raises(CheckpointError, match=message) as caught:
        verify_checkpoint(directory)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_exist_only_as_a_pickle_are_refused_with_the_command_that_converts_them(directory: Path) -> None:
    (directory / "training_args.bin").touch()
    (directory / "model.safetensors").rename(directory / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(CheckpointError, match=r"/pytorch_model-00001-of-00002\.bin is a pickle.*pytorch_model\*\.bin"):
        verify_checkpoint(directory)


def test_what_training_leaves_behind_is_not_taken_for_weights(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "optimizer.pt")
    with pytest.raises(AbsentWeightsError, match=r"holds neither model\.safetensors"):
        verify_checkpoint(directory)


@pytest.mark.skipif(not TORCH_PYTHON.exists(), reason="`make bench` makes the environment that has torch")
@pytest.mark.parametrize("shards", [1, 2])
def test_the_command_that_converts_a_pickle_keeps_every_tensor(tmp_path: Path, shards: int) -> None:
    directory = copied(GOLDEN / "families" / "bert-classifier", tmp_path / "a model's")
    weights = directory / "model.safetensors"
    tensors = read_safetensors(weights)
    subprocess.run([TORCH_PYTHON, "-c", PICKLE, directory, str(shards)], check=True)
    with pytest.raises(CheckpointError) as caught:
        verify_checkpoint(directory)
    command = str(caught.value).partition(" with cd ")[2].replace("&& python", f"&& {TORCH_PYTHON}")
    subprocess.run("cd " + command, shell=True, check=True)
    verify_checkpoint(directory)
    converted = read_safetensors(weights)
    # The pickle had one tensor under a second name: memory that tensors share is no obstacle.
    assert set(converted) == {*tensors, "second.name"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(converted[name], tensor)


def shard(directory: Path) -> None:
    """Spread the weights over two files and an index, as large checkpoints are."""
    whole = directory / "model.safetensors"
    tensors = read_safetensors(whole)
    whole.unlink()
    halves = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}  # type: dict[str, dict[str, np.ndarray]]
    for position, (name, tensor) in enumerate(tensors.items()):
        halves[f"model-0000{position % 2 + 1}-of-00002.safetensors"][name] = tensor
    for file_name, half in halves.items():
        write_safetensors(directory / file_name, half)
    weight_map = {name: file_name for file_name, half in halves.items() for name in half}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_a_sharded_checkpoint_is_read_shard_by_shard(directory: Path) -> None:
    shard(directory)
    verify_checkpoint(directory)
    assert [path.name[:11] for path in weight_files(directory)] == ["model-00001", "model-00002"]


def test_a_missing_shard_is_named(directory: Path) -> None:
    shard(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        verify_checkpoint(directory)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a directory"):
        verify_checkpoint(tmp_path / "nothing")
