"""The files of an input: named, in folders, by globs, or on storage by URL."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from api.bulk.errors import BulkError
from api.bulk.storage import filesystem, is_url, local, reading

Format = Literal["jsonl", "csv", "parquet"]
Compression = Literal["none", "gz", "zst"]

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
_KNOWN = ".jsonl, .ndjson, .json, .csv or .tsv (also with .gz or .zst behind), or .parquet"


@dataclass(frozen=True)
class Source:
    """A file of rows.

    Attributes:
        path: absolute, or a URL that fsspec opens.
    """

    path: str
    format: Format
    compression: Compression = "none"

    @property
    def delimiter(self) -> str:
        """Between the fields of a CSV."""
        return "\t" if _suffixes(self.path)[0] == ".tsv" else ","


def find_inputs(patterns: Sequence[str]) -> list[Source]:
    """The files that are meant, each once: in the order of the patterns, those of a folder or glob sorted by path.

    A folder is searched through with all folders in it. Files there with names that begin with "." or "_", and those of
    no known format, are left out; so is `.json` there, which is seldom a file of rows.

    Raises:
        BulkError: nothing is there, it is unreadable or of no known format, or formats are mixed.
    """
    found: dict[str, Source] = {}
    for pattern in patterns:
        for source in _sources(local(pattern)):
            found.setdefault(source.path, source)
    sources = list(found.values())
    for other in sources[1:]:
        if other.format != sources[0].format:
            raise BulkError(
                f"The input mixes formats: {sources[0].path} is {sources[0].format} and {other.path} is "
                f"{other.format}; name files of one format, for example by a glob like *.{other.format}."
            )
    return sources


def _sources(pattern: str) -> list[Source]:
    system, root = filesystem(pattern)
    with reading(pattern):
        if system.isfile(root):
            return [_named(_shown(system, root, pattern))]
        if system.isdir(root):
            return _in_folder(system, root, pattern)
        if not glob.has_magic(pattern):
            raise BulkError(f"{pattern} is not there: name a file, a folder, a glob or a URL.")
        names = sorted(name for name in system.glob(root) if system.isfile(name))
    if not names:
        raise BulkError(f"{pattern} matches no file: check the path, and put the glob into quotes.")
    return [_named(_shown(system, name, pattern)) for name in names]


def _in_folder(system: Any, root: str, pattern: str) -> list[Source]:
    shown = (_shown(system, name, pattern) for name in sorted(_files(system, root)))
    known = [source for path in shown if (source := _source(path)) and ".json" not in PurePosixPath(path).suffixes]
    if not known:
        raise BulkError(f"{pattern} has no file whose name ends in {_KNOWN.replace('.json, ', '')}.")
    return known


def _files(system: Any, folder: str) -> Iterator[str]:
    """All files within: by `ls`, as fsspec's `walk` keeps silent about folders within that it may not read."""
    for entry in system.ls(folder, detail=True):
        name = str(entry["name"]).rstrip("/")
        if name == folder.rstrip("/") or name.rpartition("/")[2].startswith((".", "_")):
            continue
        if entry["type"] != "directory":
            yield name
        elif not entry.get("islink"):
            yield from _files(system, name)


def _shown(system: Any, name: str, pattern: str) -> str:
    return str(system.unstrip_protocol(name)) if is_url(pattern) else str(Path(name))


def _named(path: str) -> Source:
    found = _source(path)
    if found is None:
        raise BulkError(f"{path} is of no known format: its name must end in {_KNOWN}.")
    return found


def _source(path: str) -> Source | None:
    """The format that the end of its name tells; None for any other."""
    suffix, packed = _suffixes(path)
    found = _FORMATS.get(suffix)
    compression = _COMPRESSIONS.get(packed, "none")
    if found is None or (found == "parquet" and compression != "none"):
        return None
    return Source(path, found, compression)


def _suffixes(path: str) -> tuple[str, str]:
    """What tells the format, and what stands behind it where the file is compressed."""
    suffixes = ["", "", *PurePosixPath(path.lower()).suffixes]
    return (suffixes[-2], suffixes[-1]) if suffixes[-1] in _COMPRESSIONS else (suffixes[-1], "")
