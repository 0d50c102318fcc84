"""Lines of a file in flat memory, with the bytes counted and digested as they pass."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes of a line, or of a record of CSV: what is longer is an error of the file and not a row."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """Iterates over the lines of an opened file, each with its newline; None for one longer than `LONGEST_LINE`.

    Attributes:
        position: bytes from the start of the file to the end of the last line given.
    """

    def __init__(self, file: BinaryIO, begin: int, end: int | None = None, seed: bytes = b"") -> None:
        """Begins at a byte, and ends with the line that reaches another (None: with the file).

        Args:
            seed: what every digest covers beside the lines.
        """
        self._file = file
        self._end = end
        self._seed = seed
        self._digest = hashlib.sha256(seed)
        self.position = begin
        file.seek(begin)

    def __iter__(self) -> Iterator[bytes | None]:
        return self

    def __next__(self) -> bytes | None:
        if self._end is not None and self.position >= self._end:
            raise StopIteration
        line = self._read()
        if not line:
            raise StopIteration
        if len(line) <= LONGEST_LINE:
            return line
        while line and not line.endswith(b"\n"):
            line = self._read()
        return None

    def taken_digest(self) -> str:
        """The sha256 (hex) of what has passed since the start or the last call."""
        digest, self._digest = self._digest, hashlib.sha256(self._seed)
        return digest.hexdigest()

    def _read(self) -> bytes:
        line = self._file.readline(LONGEST_LINE + 1)
        self._digest.update(line)
        self.position += len(line)
        return line
