"""Tensors in safetensors files, of which any rows and columns are read on their own, as float32."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pooling.checkpoint import read_safetensors_header
from pooling.errors import CheckpointError

# The types of safetensors that hold weights; bfloat16 has no numpy type and is read as the upper half of a float32.
# Whole numbers are position ids, which old exports store among the weights.
STORED_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "I64": "<i8"}


class WeightFile:
    """An open safetensors file.

    It is read, not mapped: mapped pages would count as memory of this process.

    Attributes:
        path: where it lies.
        tensors: what it holds, in the order of the file.
        bytes_read: how many bytes of tensors were read so far.
    """

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError for a file without a valid header."""
        header, self._begin = read_safetensors_header(path)
        self.path = path
        self.tensors = [
            StoredTensor(self, name, entry.dtype, entry.shape, entry.begin)
            for name, entry in sorted(header.items(), key=lambda item: item[1].begin)
        ]
        self.bytes_read = 0

    def __enter__(self) -> Self:
        self._descriptor = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read_into(self, buffer: NDArray[np.uint8], position: int) -> None:
        """Fill a buffer with the file's bytes from a position behind the header on.

        Raises:
            CheckpointError: the file ends before, or cannot be read.
        """
        view, done = memoryview(buffer.data), 0
        while done < len(view):
            try:
                count = os.preadv(self._descriptor, [view[done:]], self._begin + position + done)
            except OSError as error:
                raise CheckpointError(f"{self.path} cannot be read ({error.strerror}): check its disk.") from error
            if not count:
                raise CheckpointError(f"{self.path} ends before its last tensor: download it again.")
            done += count
        self.bytes_read += done


class StoredTensor:
    """A tensor of an open file; nothing of it is in memory until it is read.

    Attributes:
        path, name: where it is and what it is called there.
        dtype: as safetensors calls it ("BF16").
        shape: its shape.
    """

    def __init__(self, file: WeightFile, name: str, dtype: str, shape: Sequence[int], begin: int) -> None:
        self._file = file
        self._begin = begin
        self.name = name
        self.dtype = dtype
        self.shape = tuple(shape)

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return self._file.path

    def read(self, rows: slice, columns: slice | None = None) -> NDArray[np.float32]:
        """These rows, and of a matrix these columns of them, float32 [rows, ..]; a copy that may be changed.

        Raises:
            CheckpointError: the tensor is of a type that holds no weights, or the file cannot be read.
        """
        if self.dtype not in STORED_TYPES:
            raise CheckpointError(
                f"{self.name} in {self.path} is stored as {self.dtype}, which is not supported: use weights in one of "
                f"{', '.join(STORED_TYPES)}."
            )
        size = np.dtype(STORED_TYPES[self.dtype]).itemsize
        width = int(np.prod(self.shape[1:]))
        count = rows.stop - rows.start
        if columns is None:
            raw = np.empty(count * width * size, dtype=np.uint8)
            self._file.read_into(raw, self._begin + rows.start * width * size)
            return self._widened(raw).reshape(count, *self.shape[1:])
        taken = columns.stop - columns.start
        block = np.empty((count, taken * size), dtype=np.uint8)
        for place, row in enumerate(range(rows.start, rows.stop)):
            self._file.read_into(block[place], self._begin + (row * width + columns.start) * size)
        return self._widened(block.reshape(-1)).reshape(count, taken)

    def _widened(self, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = raw.view(STORED_TYPES[self.dtype])
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False)
