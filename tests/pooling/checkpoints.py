"""Checkpoints that tests damage: copies of the tiny one, and safetensors files written by hand."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}


def copied(source: Path, target: Path) -> Path:
    """A copy of a checkpoint that a test may change."""
    shutil.copytree(source, target)
    return target


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    """Apply a change to the JSON value in a file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a file, read without any of the code under test."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]], "<f4").reshape(
            entry["shape"]
        )
        for name, entry in header.items()
    }


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], types: Mapping[str, str] | None = None) -> None:
    """Write arrays as a safetensors file; `types` gives those that are not F32."""
    header: dict[str, object] = {}
    data = b""
    for name, array in tensors.items():
        kind = (types or {}).get(name, "F32")
        chunk = np.ascontiguousarray(array).astype(NUMPY_TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(chunk)]}
        data += chunk
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
