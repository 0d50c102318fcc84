"""OpenAI's files, as its clients read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from api.errors import bad_request
from scheduler.files import StoredFile

BATCH, BATCH_OUTPUT = "batch", "batch_output"

SHORTEST_LIFE, LONGEST_LIFE = 3_600, 2_592_000
"""Seconds that `expires_after` may say."""

DEFAULT_LIFE = 2_592_000
"""Seconds that a file lives unless its upload says otherwise: OpenAI's 30 days for files of batches."""


class FileObject(BaseModel):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool


def file_object(file: StoredFile) -> FileObject:
    """A file as clients read it."""
    return FileObject(
        id=file.file_id,
        bytes=file.size,
        created_at=file.created,
        expires_at=file.expires or None,
        filename=file.filename,
        purpose=file.purpose,
    )


def checked_purpose(fields: Mapping[str, str]) -> str:
    """The purpose of an upload; raises a 400 for any but `batch`."""
    purpose = fields.get("purpose")
    if purpose != BATCH:
        raise bad_request(f"purpose is {purpose!r}; files are for batches here: send `batch`.", "purpose")
    return purpose


def checked_life(anchor: object, seconds: object, field: str = "expires_after") -> int:
    """Seconds that a file lives: those of an `expires_after`, or the default where it is absent.

    Raises:
        ApiError: 400, it is out of range or has another anchor.
    """
    if anchor is None and seconds is None:
        return DEFAULT_LIFE
    if anchor != "created_at":
        raise bad_request(f"{field}.anchor is {anchor!r}; it must be `created_at`.", field)
    number = int(seconds) if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit() else seconds
    if type(number) is not int or not SHORTEST_LIFE <= number <= LONGEST_LIFE:
        raise bad_request(f"{field}.seconds is {seconds!r}; it must be from {SHORTEST_LIFE} to {LONGEST_LIFE}.", field)
    return number


def page_of(objects: Sequence[Any], has_more: bool) -> dict[str, Any]:
    """A page of objects with ids, as OpenAI's clients page: by the last id, as long as `has_more` is true."""
    return {
        "data": objects,
        "first_id": objects[0].id if objects else None,
        "last_id": objects[-1].id if objects else None,
        "has_more": has_more,
    }
