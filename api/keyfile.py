"""The key file: TOML with a section a key, for people to edit and for `millpond keys` to change.

    [keys.alice]
    sha256 = "5e88…"                  # of the key, which itself is written nowhere
    created = 2026-03-01T12:00:00Z
    expires = 2027-03-01T12:00:00Z    # left out: never
    models = ["org/name"]             # left out: all
    lanes = ["interactive"]           # left out: all
    tokens_per_minute = 60000         # left out: no limit
    concurrency = 8                   # left out: no limit
    weight = 2                        # its share of a lane beside other keys'; left out: 1

Plain SHA-256 is enough: the slow hashes that passwords need make guessing dear, and nobody guesses 256 random bits.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.errors import LaunchError
from scheduler.keys import Lane

FILE_NAME = "keys.toml"
"""What it is called in the data directory, where none is named."""

NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""Names that TOML takes without quotes; they become part of Redis keys and of lines in the log."""

KEY_PREFIX = "mp-"
"""Marks a string as a key of Millpond, for people and for programs that look for secrets in code."""

_HEAD = """\
# Keys of Millpond, one section each. `millpond keys add|list|revoke` change this file, and so may you:
# servers read it again when it changes. A key that is left out of it is refused.
"""

MOST_WEIGHT = 100
"""More would only make the turns of a lane longer than its batches."""

Count = Annotated[int, Field(strict=True, gt=0)]


class KeyEntry(BaseModel):
    """What the file says of one key; what may be left out is then not limited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    models: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    lanes: Annotated[tuple[Lane, ...] | None, Field(min_length=1)] = None
    tokens_per_minute: Count | None = None
    concurrency: Count | None = None
    weight: Annotated[int, Field(strict=True, ge=1, le=MOST_WEIGHT)] | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: dict[Annotated[str, Field(pattern=NAME_PATTERN)], KeyEntry] = {}

    @model_validator(mode="after")
    def _differ(self) -> "_File":
        names: dict[str, str] = {}
        for name, entry in self.keys.items():
            if names.setdefault(entry.sha256, name) != name:
                raise ValueError(f"keys.{name} and keys.{names[entry.sha256]} have the same sha256")
        return self


def new_key() -> str:
    """A key that nobody guesses: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest_of(key: bytes) -> bytes:
    """The SHA-256 of a key, 32 bytes."""
    return hashlib.sha256(key).digest()


def read_key_file(path: Path) -> dict[str, KeyEntry]:
    """The keys of a file by their names.

    Raises:
        LaunchError: it is not there, not readable, writable by everyone, or something in it is wrong.
    """
    return _parsed(_text_of(path), path)


def _text_of(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise LaunchError(f"The key file {path} is not a file: name another --key-file.")
        if mode & stat.S_IWOTH:
            raise LaunchError(f"Everyone on this machine may write to the key file {path}: `chmod 600` it.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LaunchError(
            f"There is no key file {path}: `millpond keys add NAME --key-file {path}` makes it."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LaunchError(f"The key file {path} cannot be read: {reason}.") from error


def _parsed(text: str, path: Path) -> dict[str, KeyEntry]:
    try:
        return dict(_File.model_validate(tomllib.loads(text)).keys)
    except tomllib.TOMLDecodeError as error:
        raise LaunchError(f"The key file {path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise LaunchError(f"The key file {path} is wrong at {place or 'keys'}: {first['msg']}.") from error


def add_entry(path: Path, name: str, entry: KeyEntry) -> None:
    """Appends a key to a file, which is made where there is none.

    Raises:
        LaunchError: there is a key of this name, or the file cannot be read or written.
    """
    with _locked(path):
        text = _text_of(path) if path.exists() else _HEAD
        entries = _parsed(text, path)
        if name in entries:
            raise LaunchError(f"{path} has a key {name!r}: `millpond keys revoke {name}` it first, or choose a name.")
        changed = f"{text.rstrip()}\n\n{_section(name, entry)}"
        _replace(path, changed, {**entries, name: entry})


def remove_entry(path: Path, name: str) -> None:
    """Takes a key out of a file.

    Raises:
        LaunchError: there is no key of this name, or the file cannot be read or written.
    """
    with _locked(path):
        text = _text_of(path)
        entries = _parsed(text, path)
        if name not in entries:
            raise LaunchError(f"{path} has no key {name!r}: its keys are {', '.join(entries) or 'none'}.")
        del entries[name]
        _replace(path, _without(text, name), entries)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps a second `millpond keys` from changing what the first has read: a revoked key would come back."""
    try:
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise LaunchError(f"The key file {path} cannot be changed: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _section(name: str, entry: KeyEntry) -> str:
    lines = [f"[keys.{name}]"]
    for field, value in entry.model_dump(exclude_none=True).items():
        # JSON's strings, numbers and arrays are TOML's too; its dates stand bare.
        written = value.isoformat() if isinstance(value, datetime) else json.dumps(value, ensure_ascii=False)
        lines.append(f"{field} = {written}")
    return "\n".join(lines) + "\n"


def _without(text: str, name: str) -> str:
    """The text without a section: people's own lines and comments stay as they wrote them."""
    lines = text.splitlines(keepends=True)
    header = re.compile(rf'\s*\[\s*keys\s*\.\s*["\']?{re.escape(name)}["\']?\s*\]')
    begin = next((number for number, line in enumerate(lines) if header.match(line)), len(lines))
    others = (number for number in range(begin + 1, len(lines)) if lines[number].lstrip().startswith("["))
    end = next(others, len(lines))
    # What stands right above the next section belongs to that one, and of two blank lines one goes.
    while end > begin + 1 and not lines[end - 1].split("#")[0].strip():
        end -= 1
    while begin > 0 and not lines[begin - 1].strip():
        begin -= 1
    return "".join(lines[:begin] + lines[end:])


def _replace(path: Path, text: str, expected: dict[str, KeyEntry]) -> None:
    """Puts a new text in the file's place, all at once, when it says what it is meant to say."""
    try:
        right = _parsed(text, path) == expected
    except LaunchError:
        right = False
    if not right:
        raise LaunchError(f"{path} is written in a way that this command cannot change: change it by hand.")
    try:
        _replace_atomically(path.resolve(), text)
    except OSError as error:
        raise LaunchError(f"The key file {path} cannot be written: {error.strerror}.") from error


def _replace_atomically(path: Path, text: str) -> None:
    """A new file is its owner's alone; one that was there keeps its owner and mode.

    Else a change made as root would lock out the server that runs as somebody else.
    """
    before = path.stat() if path.exists() else None
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            owner = before or path.parent.stat()
            if os.geteuid() == 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode) if before else 0o600)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
