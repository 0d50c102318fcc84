"""From safetensors files into the live parameters of a model, a slab at a time and without torch."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pooling.checkpoint import weight_files
from pooling.errors import CheckpointError
from pooling.layers.layer import WeightedLayer
from pooling.models.interface import PoolingModel
from pooling.stored import StoredTensor, WeightFile

# How checkpoints converted from TensorFlow call the parameters of a layer norm.
LEGACY_SUFFIXES = {".gamma": ".weight", ".beta": ".bias"}

# Of the tensors that do not fit, so many are named.
NAMED = 5


class Target(NamedTuple):
    """Where a tensor of the checkpoint belongs."""

    layer: WeightedLayer
    parameter: str
    shard: str | None


@dataclass(frozen=True)
class Loaded:
    """What loading took: bytes read from the weight files by this process, and seconds."""

    bytes_read: int
    seconds: float


def load_weights(model: PoolingModel, directory: Path) -> Loaded:
    """Fill every parameter of a model from the safetensors files of a checkpoint.

    All names and shapes are compared before anything is read. Then each tensor is read in slabs, and of those only what
    this rank holds: memory holds the model once, and one slab.

    Raises:
        CheckpointError: a tensor is missing, of the wrong shape, or not part of this model; they are named with shapes.
    """
    began = time.monotonic()
    targets = checkpoint_targets(model)
    with ExitStack() as open_files:
        files = [open_files.enter_context(WeightFile(path)) for path in weight_files(directory)]
        found = _found(files, targets, model, directory)
        for name, tensor in found.items():
            for target in targets[name]:
                target.layer.load(target.parameter, tensor, target.shard)
        return Loaded(sum(file.bytes_read for file in files), time.monotonic() - began)


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


def wrong_shape(tensor: StoredTensor, wanted: Sequence[int]) -> CheckpointError:
    """The error, with both shapes, for a tensor that is not of a shape that its layer accepts."""
    return CheckpointError(
        f"{tensor.name} in {tensor.path} has the shape {list(tensor.shape)} where the model needs {list(wanted)}: use "
        "weights that fit config.json."
    )


def _found(
    files: Sequence[WeightFile], targets: Mapping[str, Sequence[Target]], model: PoolingModel, directory: Path
) -> dict[str, StoredTensor]:
    """The tensors that fill the targets, by name without a prefix: exactly these, each of the right shape."""
    found: dict[str, StoredTensor] = {}
    surplus: list[str] = []
    for file in files:
        for tensor in file.tensors:
            name = _plain_name(tensor.name, model.checkpoint_prefixes)
            if name in targets:
                found[name] = tensor
            elif not model.ignores(name):
                surplus.append(f"{tensor.name} {list(tensor.shape)}")
    missing = [
        f"{name} {list(_wanted_shape(places[0]))}" for name, places in sorted(targets.items()) if name not in found
    ]
    if missing:
        raise CheckpointError(
            f"{directory} lacks {len(missing)} of the tensors that its config.json calls for: {_named(missing)}; use "
            "weights that fit config.json."
        )
    if surplus:
        raise CheckpointError(
            f"{directory} holds {len(surplus)} tensors that are no part of this model: {_named(surplus)}; use weights "
            "that fit config.json."
        )
    for name, tensor in found.items():
        for place in targets[name]:
            if not place.layer.accepts(place.parameter, tensor.shape, place.shard):
                raise wrong_shape(tensor, _wanted_shape(place))
    return found


def _wanted_shape(target: Target) -> Sequence[int]:
    return target.layer.stored_shape(target.parameter, target.shard)


def _named(tensors: Sequence[str]) -> str:
    more = f" and {len(tensors) - NAMED} more" if len(tensors) > NAMED else ""
    return ", ".join(tensors[:NAMED]) + more


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
