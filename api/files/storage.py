"""Where files lie: a directory, or a storage that fsspec reaches by its URL (`s3://...`).

All of it blocks: call it from a thread.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.spec import AbstractBufferedFile

from api.options import Options

PIECE = 1024 * 1024
"""Bytes read at once."""

UNFINISHED = ".tmp"
"""How the names of files end in a directory that are being written."""


class Storage:
    """Files by name; names may have slashes.

    Args:
        url: a directory, or a URL that fsspec knows.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._is_local = isinstance(self._files, fsspec.implementations.local.LocalFileSystem)

    @classmethod
    def of(cls, options: Options) -> "Storage":
        """The one that the options name."""
        return cls(options.file_storage or str(options.data_dir.absolute() / "files"))

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write that is there as a whole at the end, or, when that fails, not at all.

        Object storages keep nothing of an upload that is not ended; a directory gets it beside, and renamed.
        """
        if self._is_local:
            with self._writing_beside(Path(self._path(name))) as file:
                yield file
            return
        file = self._files.open(self._path(name), "wb")
        try:
            yield cast("BinaryIO", file)
        except BaseException:
            with suppress(Exception):
                file.discard()
            if isinstance(file, AbstractBufferedFile):
                file.closed = True  # or it would be written out once more when it is collected
            raise
        file.close()

    @contextmanager
    def _writing_beside(self, path: Path) -> Iterator[BinaryIO]:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}{UNFINISHED}")
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """A whole small file."""
        with self.writing(name) as file:
            file.write(data)

    def read(self, name: str, begin: int | None = None, end: int | None = None) -> bytes:
        """A file, or the bytes of it from `begin` up to `end`; raises FileNotFoundError."""
        found: bytes = self._files.cat_file(self._path(name), start=begin, end=end)
        return found

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file to read from its beginning; raises FileNotFoundError."""
        with self._files.open(self._path(name), "rb") as file:
            yield cast("BinaryIO", io.BufferedReader(file, PIECE) if not self._is_local else file)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, a piece at a time."""
        with self.reading(name) as file:
            while piece := file.read(PIECE):
                yield piece

    def remove(self, name: str) -> None:
        """Removes a file, or all below a name, and what writing it left that never came to its end.

        Nothing there is as well.
        """
        with suppress(FileNotFoundError):
            self._files.rm(self._path(name), recursive=True)
        if self._is_local:
            path = Path(self._path(name))
            for each in path.parent.glob(f"{path.name}.*{UNFINISHED}"):
                each.unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        assert ".." not in name
        return f"{self._root}/{name}"


def content_name(file_id: str) -> str:
    """Where the content of a file lies."""
    return f"content/{file_id}"


def storage_of(app_state: Any) -> Storage:
    """The storage of a process, made when it is first asked for."""
    storage: Storage | None = getattr(app_state, "storage", None)
    if storage is None:
        storage = app_state.storage = Storage.of(app_state.millpond.options)
    return storage
