"""Where inputs and outputs lie: on this machine, or on storage that fsspec reaches by URL."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from api.bulk.errors import BulkError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_url(path: str) -> bool:
    """Whether fsspec opens it; `local` has made paths of `file://` URLs."""
    return "://" in path


def local(path: str) -> str:
    """A path instead of a URL that leads to this machine."""
    return path.removeprefix("file://") if path.startswith("file://") else path


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and its path there.

    Raises:
        BulkError: no such storage is known or installed, or it lets nobody in.
    """
    with reading(path):
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(path)
        except ImportError as error:
            hint = "install Millpond with its extra `s3`" if path.startswith("s3") else str(error).rstrip(".")
            raise BulkError(f"{path} is on storage that this installation does not reach: {hint}.") from error
        except ValueError as error:
            raise BulkError(f"{path} is no path and no known kind of URL: {str(error).rstrip('.')}.") from error
        return found


def opened(path: str) -> BinaryIO:
    """A file to read from any place in it.

    Raises:
        BulkError: it is not there, or not readable.
    """
    with reading(path):
        if not is_url(path):
            return Path(path).open("rb")
        system, name = filesystem(path)
        return cast("BinaryIO", system.open(name, "rb"))


def state_of(path: str) -> str:
    """What tells cheaply that a file is the one it was: size and time here, what the storage says of it elsewhere."""
    with reading(path):
        if is_url(path):
            system, name = filesystem(path)
            return str(system.ukey(name))
        found = Path(path).stat()
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns what the system says into one sentence that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise BulkError(f"{path} is not there: check the path.") from error
    except OSError as error:
        raise BulkError(f"{path} cannot be read: {_said(error)}.") from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns what the system says into one sentence that names the file, and what to do when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise BulkError(
                f"{path} cannot be written, the disk is full ({_said(error)}): make room, then run the same "
                "command again."
            ) from error
        raise BulkError(f"{path} cannot be written: {_said(error)}.") from error


def _said(error: OSError) -> str:
    return str(error.strerror or error or type(error).__name__).rstrip(".")
