"""Compressed inputs are unpacked once, so that any place in them can be reached."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from api.bulk.beside import Beside
from api.bulk.errors import BulkError
from api.bulk.sources import Source
from api.bulk.storage import opened, state_of, writing

_PIECE = 1 << 20


def unpacked(source: Source, spool: Path) -> str:
    """The path of the unpacked file, in the spool; made where it is not there whole already.

    A file that has changed (its size or time on this machine, what the storage tells of it elsewhere) is unpacked anew.

    Raises:
        BulkError: it breaks off or is broken, or the spool's disk is full.
    """
    fingerprint = hashlib.sha256(f"{source.path}\n{state_of(source.path)}".encode()).hexdigest()[:16]
    target = spool / f"{fingerprint}-{Path(source.path).stem}"
    if target.exists():
        return str(target)
    with Beside(str(target)) as beside, opened(source.path) as file:
        for piece in _pieces(source, file):
            with writing(str(target)):
                beside.file.write(piece)
    return str(target)


def _pieces(source: Source, file: BinaryIO) -> Iterator[bytes]:
    unpacked_bytes = 0
    try:
        if not file.read(1):
            raise EOFError
        file.seek(0)
        stream = _stream(source, file)
        while piece := stream.read(_PIECE):
            unpacked_bytes += len(piece)
            yield bytes(piece)
    except EOFError as error:
        raise _broken(source, f"breaks off after {unpacked_bytes} bytes of its content") from error
    except (OSError, zlib.error, pa.ArrowException) as error:
        # The file is open: what is wrong is what it holds. Arrow has no error of its own for what ends too early.
        what = "breaks off" if "Truncated" in str(error) else f"is broken ({str(error).rstrip('.')})"
        raise _broken(source, f"{what} after {unpacked_bytes} bytes of its content") from error


def _broken(source: Source, what: str) -> BulkError:
    return BulkError(f"{source.path} {what}: it is not a whole .{source.compression} file, so copy it once more.")


def _stream(source: Source, file: BinaryIO) -> BinaryIO:
    if source.compression == "gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    stream: Any = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    return cast("BinaryIO", stream)
