"""Integrity of a checkpoint directory, checked in milliseconds and without loading any weight."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pooling.errors import CheckpointError

SINGLE_WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

GIT_LFS_HEAD = b"version https://git-lfs"
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
    read_json(directory / "tokenizer.json")
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
        CheckpointError: there are none, a shard is missing, or the weights exist only as pickles.
    """
    single = directory / SINGLE_WEIGHTS
    if single.exists():
        return (single,)
    index_path = directory / WEIGHTS_INDEX
    if index_path.exists():
        weight_map = read_json(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index_path} has no weight_map that says where tensors lie: download it again.")
        shards = tuple(directory / str(name) for name in sorted(set(weight_map.values())))
        for shard in shards:
            if not shard.exists():
                raise CheckpointError(f"{shard} is missing, though {index_path.name} names it: download that shard.")
        return shards
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in directory.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{directory} has its weights only as a pickle ({pickles[0]}), which could run any code when loaded: "
            f'convert it, where torch is installed, with python -c "from transformers import AutoModel; '
            f"AutoModel.from_pretrained('{directory}').save_pretrained('{directory}')\"."
        )
    raise CheckpointError(
        f"{directory} holds neither {SINGLE_WEIGHTS} nor {WEIGHTS_INDEX}: download the weights as safetensors."
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
