"""The keys of one api process: those given at the start, and those of a key file that is read again when it changes."""

import asyncio
import errno
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from api.callers import ANONYMOUS, Caller
from api.errors import ApiError, LaunchError, overloaded
from api.keyfile import FILE_NAME, KeyEntry, digest_of, read_key_file
from api.options import Options

log = logging.getLogger(__name__)

_GONE = (errno.ENOENT, errno.ENOTDIR)

LOOK_SECONDS = 1.0
"""How often the key file is looked at while nobody calls."""


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    caller: Caller
    expires: datetime | None = None


def key_file_of(options: Options) -> Path:
    """The key file: the one that was named, else the data directory's."""
    return options.key_file or options.data_dir / FILE_NAME


class Keyring:
    """Finds who calls by the key that they send.

    Without any key configured everyone is let in, as `ANONYMOUS`. That ends for good when the key file appears: a file
    that is later empty lets nobody in, one that is broken or gone leaves the keys in force that were read last.

    Args:
        given: keys with full rights.
        path: the key file. It is looked at with every call, which costs microseconds, so a revoked key is refused from
            the next call on in every process.
        required: whether a file that is not there locks the door.
    """

    def __init__(self, given: Sequence[str], path: Path, *, required: bool) -> None:
        self._given = [
            # No key of the file can have such a name.
            _Known(digest_of(key.encode()), Caller(f"api-key:{number}"))
            for number, key in enumerate(given, 1)
        ]
        self._path = path
        self._expects_file = required
        self._filed: list[_Known] | None = None
        self._stamp: object = "never looked at"

    @classmethod
    def of(cls, options: Options) -> "Keyring":
        """The keyring that the options ask for."""
        given = [key.get_secret_value() for key in options.api_key]
        return cls(given, key_file_of(options), required=options.key_file is not None)

    def caller_of(self, presented: Sequence[bytes]) -> Caller:
        """The owner of the first of these keys that is known.

        Raises:
            ApiError: 401 when there is no key, no known one, or one whose time is over; 503 when the file that would
                know could never be read.
        """
        self._look()
        if not (self._given or self._expects_file):
            return ANONYMOUS
        if not presented:
            raise _unauthorized(
                "This server asks for a key: send it as `Authorization: Bearer KEY`, or in the header x-api-key or "
                "api-key."
            )
        for key in presented:
            known = self._match(key)
            if known is not None:
                return _unless_expired(known)
        if self._expects_file and self._filed is None:
            raise overloaded("The server cannot read its key file, so it knows no keys; its log says why.", 5)
        raise _unauthorized("The server does not know this key: it is mistyped, was revoked, or is another server's.")

    def caller_named(self, name: str) -> Caller:
        """The owner of the key of this name, as it stands now: whoever queued something may have lost the key since.

        Raises:
            ApiError: 401 there is no such key any more, or its time is over; 503 as of `caller_of`.
        """
        self._look()
        if not name:
            return ANONYMOUS
        for known in (*self._given, *(self._filed or ())):
            if known.caller.name == name:
                return _unless_expired(known)
        if self._expects_file and self._filed is None:
            raise overloaded("The server cannot read its key file, so it knows no keys; its log says why.", 5)
        raise _unauthorized(f"The key {name!r}, with which this was queued, is not known any more.")

    async def watch(self) -> NoReturn:
        """Looks at the file now and then, until cancelled.

        A process that nobody calls would else not see that a key was revoked, and would let it in again if the file
        cannot be read by the time somebody does.
        """
        while True:
            self._look()
            await asyncio.sleep(LOOK_SECONDS)

    def _match(self, key: bytes) -> _Known | None:
        """Every known key is compared, each in constant time: how long it takes tells nothing about them."""
        digest, found = digest_of(key), None
        for known in (*self._given, *(self._filed or ())):
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def _look(self) -> None:
        """Reads the file if it has changed since the last look."""
        stamp = self._stamp_of_file()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._expects_file = self._expects_file or stamp is not None
        if not self._expects_file:
            return
        try:
            entries = read_key_file(self._path)
        except LaunchError as error:
            kept = "No key of it is known yet" if self._filed is None else "The keys read before stay in force"
            log.error("%s %s, until it is put right.", error, kept)  # noqa: TRY400 - the sentence says it all
            return
        self._filed = [_known(name, entry) for name, entry in entries.items()]
        log.info("keys of %s in force: %d", self._path, len(self._filed))

    def _stamp_of_file(self) -> object:
        """Changes whenever the file does; None while there is none."""
        try:
            found = self._path.stat()
        except OSError as error:
            return None if error.errno in _GONE else error.errno
        return found.st_ino, found.st_dev, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _known(name: str, entry: KeyEntry) -> _Known:
    models = None if entry.models is None else frozenset(entry.models)
    lanes = None if entry.lanes is None else frozenset(entry.lanes)
    caller = Caller(name, models, lanes, entry.tokens_per_minute, entry.concurrency, entry.weight or 1)
    return _Known(bytes.fromhex(entry.sha256), caller, entry.expires)


def _unless_expired(known: _Known) -> Caller:
    if known.expires is not None and known.expires <= datetime.now(UTC):
        raise _unauthorized(f"The key {known.caller.name!r} ended at {known.expires.isoformat()}: ask for a new one.")
    return known.caller


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
