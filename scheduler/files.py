"""What is known of files: those that callers hand in for batches, and those that come of batches."""

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.keys import EXPIRING_FILES, file_key, files_of
from scheduler.lua import Argument, Step


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file.

    Attributes:
        owner: the name of the key that made it; the only one that sees it.
        size: bytes of its content.
        created, expires: Unix seconds; expires 0 is never.
        purpose: `batch` or `batch_output`.
    """

    file_id: str
    owner: str
    filename: str
    size: int
    purpose: str
    created: int
    expires: int

    def fields(self) -> list[Argument]:
        """As fields and values of its hash, by turns."""
        found: list[Argument] = ["owner", self.owner, "filename", self.filename, "bytes", self.size]
        return [*found, "purpose", self.purpose, "created", self.created, "expires", self.expires]

    @classmethod
    def decode(cls, file_id: str, found: Mapping[bytes, bytes]) -> "StoredFile":
        """What its hash holds."""
        text = {name.decode(): value.decode() for name, value in found.items()}
        numbers = (int(text["created"]), int(text["expires"]))
        return cls(file_id, text["owner"], text["filename"], int(text["bytes"]), text["purpose"], *numbers)


def add_file(file: StoredFile, microseconds: int) -> Step:
    """Makes a file known whose content lies in the storage."""
    keys = [file_key(file.file_id), files_of(file.owner), EXPIRING_FILES]
    return Step("add_file", keys, [file.file_id, microseconds, file.expires, *file.fields()])


def remove_file(file_id: str, owner: str) -> Step:
    """Forgets a file; its reply is 1, or 0 when there is none."""
    return Step("remove_file", [file_key(file_id), files_of(owner), EXPIRING_FILES], [file_id])
