"""From safetensors files into the live parameters of a model, one tensor at a time and without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pooling.checkpoint import read_safetensors_header, weight_files
from pooling.errors import CheckpointError
from pooling.layers.layer import WeightedLayer
from pooling.models.interface import PoolingModel

# The types of safetensors that hold weights; bfloat16 has no numpy type and is read as the upper half of a float32.
STORED_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}

# How checkpoints converted from TensorFlow call the parameters of a layer norm.
LEGACY_SUFFIXES = {".gamma": ".weight", ".beta": ".bias"}


class Target(NamedTuple):
    """Where a tensor of the checkpoint belongs."""

    layer: WeightedLayer
    parameter: str
    shard: str | None


def load_weights(model: PoolingModel, directory: Path) -> None:
    """Fill every parameter of a model from the safetensors files of a checkpoint.

    The files are mapped, and one tensor is converted at a time: memory holds the model once.

    Raises:
        CheckpointError: a tensor is missing, of the wrong shape, or not part of this model.
    """
    targets = checkpoint_targets(model)
    surplus: list[str] = []
    for path in weight_files(directory):
        for tensor in stored_tensors(path):
            name = _plain_name(tensor.name, model.checkpoint_prefixes)
            found = targets.pop(name, [])
            if not found and not model.ignores(name):
                surplus.append(f"{tensor.name} {list(tensor.shape)}")
            for target in found:
                _fill(target, tensor)
    _refuse_difference(directory, sorted(targets), surplus)


def checkpoint_targets(model: PoolingModel) -> dict[str, list[Target]]:
    """For each tensor that a checkpoint must hold, by its name there without a prefix, what it fills.

    That is one parameter, or two where the embedding is also the language-model head.
    """
    targets: dict[str, list[Target]] = {}
    for path, layer in model.named_sublayers():
        if not isinstance(layer, WeightedLayer):
            continue
        parent = path.rpartition(".")[0]
        for parameter, _ in layer.named_parameters(include_sublayers=False):
            for shard in layer.shards or (None,):
                name = f"{path}.{parameter}" if shard is None else f"{parent}.{shard}.{parameter}"
                targets.setdefault(_checkpoint_name(model, name), []).append(Target(layer, parameter, shard))
    return targets


def _checkpoint_name(model: PoolingModel, name: str) -> str:
    """What checkpoints call a parameter; a head knows the names of its own."""
    names = model.checkpoint_names
    if name.startswith("head."):
        name, names = name.removeprefix("head."), getattr(model.head, "checkpoint_names", {})
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def _plain_name(stored: str, prefixes: tuple[str, ...]) -> str:
    """A name in a checkpoint without its model's prefix, and in the spelling of today."""
    name = stored.removeprefix(next((prefix for prefix in prefixes if stored.startswith(prefix)), ""))
    for legacy, current in LEGACY_SUFFIXES.items():
        if name.endswith(legacy):
            name = name.removesuffix(legacy) + current
    return name


def _fill(target: Target, tensor: "MappedTensor") -> None:
    try:
        target.layer.load(target.parameter, tensor.values(), target.shard)
    except ValueError as error:
        raise CheckpointError(f"{tensor.name} in {tensor.path} {error}: use weights that fit config.json.") from error


@dataclass(frozen=True)
class MappedTensor:
    """A tensor of a safetensors file, on the disk until its values are asked for."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: NDArray[np.uint8]

    def values(self) -> NDArray[np.float32]:
        """The values as float32, in the tensor's shape.

        Raises:
            CheckpointError: the tensor is of a type that holds no floating-point numbers, other than ids.
        """
        return _as_float32(self.path, self.name, self.dtype, self.raw).reshape(self.shape)


def stored_tensors(path: Path) -> Iterator[MappedTensor]:
    """Every tensor in a safetensors file, in the order of the file."""
    header, data_start = read_safetensors_header(path)
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    for name, entry in sorted(header.items(), key=lambda item: item[1].begin):
        raw = mapped[data_start + entry.begin : data_start + entry.end]
        yield MappedTensor(path, name, entry.dtype, entry.shape, raw)


def _as_float32(path: Path, name: str, dtype: str, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    if dtype == "I64":  # position ids, which old exports store among the weights
        return raw.view("<i8").astype(np.float32)
    if dtype not in STORED_TYPES:
        raise CheckpointError(
            f"{name} in {path} is stored as {dtype}, which is not supported: use weights in one of "
            f"{', '.join(STORED_TYPES)}."
        )
    values = raw.view(STORED_TYPES[dtype])
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)  # a copy even of float32: a layer may change what it is given


def _refuse_difference(directory: Path, missing: list[str], surplus: list[str]) -> None:
    if missing:
        raise CheckpointError(
            f"{directory} lacks {len(missing)} of the tensors that its config.json calls for, the first being "
            f"{missing[0]}: use weights that fit config.json."
        )
    if surplus:
        raise CheckpointError(
            f"{directory} holds {len(surplus)} tensors that are no part of this model, the first being {surplus[0]}: "
            "use weights that fit config.json."
        )
