"""A file that has its name only when it is whole."""

import os
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, Self

from api.bulk.storage import filesystem, is_url, local, writing


class Beside:
    """Writes a file as `NAME.tmp-...` in the same folder, and renames it where the block ends without an error.

    Whatever goes wrong leaves nothing under either name, and what had the name before stays.

    Attributes:
        path: a path, or a URL that fsspec opens.
        file: to write to, within the block.
    """

    file: BinaryIO

    def __init__(self, path: str) -> None:
        self.path = local(path)
        self._storage: _Local | _Remote = _Remote(self.path) if is_url(self.path) else _Local(self.path)

    def remove_leftovers(self) -> None:
        """Removes what writers of this file left that were killed; only for who knows that nobody is writing it."""
        with writing(self.path):
            self._storage.remove_leftovers()

    def __enter__(self) -> Self:
        with writing(self.path):
            self.file = self._storage.opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            if kind is None:
                with writing(self.path):
                    self._storage.finish(self.file)
                    whole = True
        finally:
            if not whole:
                self._storage.discard(self.file)


def _temporary(name: str) -> str:
    return f"{name}.tmp-{os.getpid()}-{os.urandom(4).hex()}"


def _is_temporary(name: str, of: str) -> bool:
    return re.fullmatch(re.escape(of) + r"\.tmp-\d+-[0-9a-f]{8}", name) is not None


class _Local:
    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._beside = self._path.with_name(_temporary(self._path.name))

    def opened(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._beside.open("wb")

    def remove_leftovers(self) -> None:
        folder = self._path.parent
        for found in folder.iterdir() if folder.exists() else ():
            if _is_temporary(found.name, self._path.name):
                found.unlink(missing_ok=True)

    def finish(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._beside.replace(self._path)
        _sync(self._path.parent)

    def discard(self, file: BinaryIO) -> None:
        # On a full disk closing tries once more to write what is still held.
        with suppress(OSError):
            file.close()
        self._beside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Makes the names in a folder last through a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class _Remote:
    """Uploads as it is written; storage that has no names to change copies and deletes instead."""

    def __init__(self, url: str) -> None:
        self._system, self._name = filesystem(url)
        self._beside = _temporary(self._name)

    def opened(self) -> BinaryIO:
        self._system.makedirs(str(PurePosixPath(self._name).parent), exist_ok=True)
        file: BinaryIO = self._system.open(self._beside, "wb")
        return file

    def remove_leftovers(self) -> None:
        folder = str(PurePosixPath(self._name).parent)
        for found in self._system.ls(folder, detail=False) if self._system.exists(folder) else ():
            if _is_temporary(PurePosixPath(found).name, PurePosixPath(self._name).name):
                self._system.rm(found)

    def finish(self, file: BinaryIO) -> None:
        file.close()
        self._system.mv(self._beside, self._name)

    def discard(self, file: Any) -> None:
        with suppress(OSError):
            file.close()
        with suppress(FileNotFoundError):
            self._system.rm(self._beside)
