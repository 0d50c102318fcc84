"""Integrity of a checkpoint directory, checked in milliseconds and without loading any weight."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pooling.errors import AbsentWeightsError, CheckpointError

TOKENIZER_FILE = "tokenizer.json"
SINGLE_WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

GIT_LFS_HEAD = b"version https://git-lfs"
# What transformers called weights before safetensors, and what training leaves beside them.
PICKLED_WEIGHTS = "pytorch_model"
TRAINING_STATES = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
# The limit of the reference implementation of safetensors; a larger value means the file is something else.
SAFETENSORS_HEADER_LIMIT = 100_000_000


def verify_checkpoint(directory: Path) -> None:
    """Check that a directory holds a whole checkpoint: configuration, tokenizer, and untruncated safetensors.

    Raises:
        CheckpointError: naming the first file that is missing or broken, and what to do about it.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory: give the directory that holds config.json.")
    read_json(directory / "config.json")
    read_json(directory / TOKENIZER_FILE)
    verify_weights(directory)


def verify_weights(directory: Path) -> None:
    """Check that a directory, of a checkpoint or of one of its modules, holds untruncated safetensors.

    Raises:
        CheckpointError: naming the first file that is missing or broken, and what to do about it.
    """
    for path in weight_files(directory):
        verify_safetensors(path)


def read_json(path: Path) -> Mapping[str, object]:
    """The JSON object in a file of the checkpoint.

    Raises:
        CheckpointError: the file is missing, a git-lfs pointer, not JSON, or not an object.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__} where an object belongs: download it again.")
    return value


def read_json_value(path: Path) -> object:
    """The JSON value of any kind in a file of the checkpoint; raises as `read_json` does."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: download the whole model repository into this directory.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    _refuse_git_lfs_pointer(path, raw)
    try:
        return json.loads(raw)
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): download it again.") from error


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files that hold the weights: one, or every shard the index names, sorted by name.

    Raises:
        AbsentWeightsError: there are none at all.
        CheckpointError: a shard is missing, or the weights exist only as pickles.
    """
    single = directory / SINGLE_WEIGHTS
    if single.exists():
        return (single,)
    index_path = directory / WEIGHTS_INDEX
    if index_path.exists():
        weight_map = read_json(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index_path} has no weight_map that says where tensors lie: download it again.")
        shards = tuple(directory / str(name) for name in sorted({str(name) for name in weight_map.values()}))
        missing = [shard for shard in shards if not shard.exists()]
        if missing:
            kind = AbsentWeightsError if len(missing) == len(shards) else CheckpointError
            raise kind(f"{missing[0]} is missing, though {index_path.name} names it: download that shard.")
        return shards
    _refuse_pickles(directory)
    raise AbsentWeightsError(
        f"{directory} holds neither {SINGLE_WEIGHTS} nor {WEIGHTS_INDEX}: download the weights as safetensors."
    )


def _refuse_pickles(directory: Path) -> None:
    """Raises CheckpointError where the weights are pickles, with the command that turns them into safetensors.

    The command needs torch and safetensors only, and no class of the model: every head stays.
    """
    pickles = sorted(path.name for ending in ("bin", "pt", "pth") for path in directory.glob(f"*.{ending}"))
    weights = [name for name in pickles if name.startswith(PICKLED_WEIGHTS)]
    found = weights or [name for name in pickles if not name.startswith(TRAINING_STATES)]
    if not found:
        return
    pattern = f"{PICKLED_WEIGHTS}*.bin" if weights else found[0]
    code = (
        "import glob, torch; from safetensors.torch import save_file; "
        f"tensors = {{name: tensor for path in sorted(glob.glob('{pattern}')) for name, tensor in "
        "torch.load(path, map_location='cpu', weights_only=True).items()}; "
        # A copy of each, as tensors that share memory are refused; popped, so that the model is in memory once.
        "save_file({name: tensors.pop(name).contiguous().clone() for name in list(tensors)}, "
        f"'{SINGLE_WEIGHTS}', {{'format': 'pt'}})"
    )
    raise CheckpointError(
        f"{directory / found[0]} is a pickle, which could run any code when loaded, and there are no other weights: "
        f"convert it, where torch and safetensors are installed, with cd {shlex.quote(str(directory))} && "
        f'python -c "{code}"'
    )


class StoredTensor(NamedTuple):
    """A tensor as the header of a safetensors file describes it: type, shape, and its bytes from `begin` to `end`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def verify_safetensors(path: Path) -> None:
    """Check that a safetensors file is as long as its header says.

    Raises:
        CheckpointError: it is a git-lfs pointer, its header is broken, or bytes are missing or left over.
    """
    header, data_start = read_safetensors_header(path)
    size = path.stat().st_size
    expected = data_start + max((tensor.end for tensor in header.values()), default=0)
    if size != expected:
        raise CheckpointError(f"{path} has {size} bytes where its header promises {expected}: download it again.")


def read_safetensors_header(path: Path) -> tuple[Mapping[str, StoredTensor], int]:
    """The tensors of a safetensors file by name, and the position in the file that their byte ranges count from.

    The format (github.com/huggingface/safetensors): eight bytes little-endian length of the header, the header as JSON
    with the byte range of each tensor, then the tensors; the last range ends at the end of the file.

    Raises:
        CheckpointError: the file cannot be read, is a git-lfs pointer, or its header is broken.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(GIT_LFS_HEAD))
            _refuse_git_lfs_pointer(path, start)
            header_length = int.from_bytes(start[:8], "little")
            if size < 8 or header_length > min(size - 8, SAFETENSORS_HEADER_LIMIT):
                raise CheckpointError(f"{path} is cut off within its header ({size} bytes): download it again.")
            file.seek(8)
            header = json.loads(file.read(header_length))
        tensors = {
            str(name): StoredTensor(str(entry["dtype"]), tuple(entry["shape"]), *map(int, entry["data_offsets"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has no valid safetensors header: download it again.") from error
    return tensors, 8 + header_length


def _refuse_git_lfs_pointer(path: Path, head: bytes) -> None:
    if head.startswith(GIT_LFS_HEAD):
        raise CheckpointError(f"{path} is a git-lfs pointer and not the file: run git lfs pull in its directory.")
