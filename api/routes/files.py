"""OpenAI's files: upload, list, look at, fetch and delete what batches read and write."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.errors import ApiError
from api.files.storage import content_name, storage_of
from api.files.uploading import receive_upload
from api.paging import ids_after, newest_first, page_number
from api.protocol.files import (
    DeletedFile,
    FileList,
    FileObject,
    checked_life,
    checked_purpose,
    file_object,
    page_of,
)
from api.state import caller_of, state_of
from scheduler.connection import persist
from scheduler.durability import run_durably
from scheduler.files import StoredFile, add_file, remove_file
from scheduler.keys import EXPIRING_FILES, file_key, files_of
from scheduler.results import ENQUEUE_SECONDS

router = APIRouter()

MOST_LISTED = 10_000

LONGEST_UPLOAD_SECONDS = 86_400
"""After which what was uploaded and never became a file is removed."""

_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"type": "string", "enum": ["batch"]},
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                },
            },
            "example": {"file": '{"custom_id": "a", "method": "POST", ...}', "purpose": "batch"},
        }
    },
}


@router.post("/v1/files", summary="Upload a file", openapi_extra={"requestBody": _FORM})
async def upload_file(request: Request) -> FileObject:
    """Takes a file for a batch, of up to --max-file-bytes; it is never whole in memory."""
    state, storage = state_of(request), storage_of(request.app.state)
    file_id = f"file-{uuid.uuid4().hex}"
    name = content_name(file_id)
    # Of what is not known as a file by then, the sweep removes the content: this process may die.
    due = int(time.time()) + LONGEST_UPLOAD_SECONDS
    await persist(lambda: state.redis.zadd(EXPIRING_FILES, {file_id: due}), ENQUEUE_SECONDS, "take the file")
    upload = await receive_upload(request, storage, name, state.options.max_file_bytes)
    try:
        checked_purpose(upload.fields)
        life = checked_life(upload.fields.get("expires_after[anchor]"), upload.fields.get("expires_after[seconds]"))
    except ApiError:
        await _remove_content(request, file_id)
        raise
    now = time.time_ns()
    created = now // 10**9
    assert upload.filename is not None
    owner, expires = caller_of(request).name, created + life
    file = StoredFile(file_id, owner, upload.filename, upload.bytes, upload.fields["purpose"], created, expires)
    await run_durably(state.redis, add_file(file, now // 1000))
    return file_object(file)


@router.get("/v1/files", summary="List files")
async def list_files(request: Request) -> FileList:
    """The key's files, the newest first, in pages of up to 10,000."""
    redis, owner = state_of(request).redis, caller_of(request).name
    limit, newest = page_number(request, "limit", MOST_LISTED, MOST_LISTED), newest_first(request)
    purpose, after = request.query_params.get("purpose"), request.query_params.get("after")
    found: list[StoredFile] = []
    while True:
        ids = await ids_after(redis, files_of(owner), after, newest, limit + 1)
        async with redis.pipeline(transaction=False) as pipeline:
            for each in ids:
                pipeline.hgetall(file_key(each))
            hashes = await pipeline.execute()
        files = [StoredFile.decode(each, values) for each, values in zip(ids, hashes, strict=True) if values]
        found += [file for file in files if _lives(file) and purpose in (None, file.purpose)]
        if len(found) > limit or len(ids) <= limit:
            break
        after = ids[-1]
    return FileList(**page_of([file_object(file) for file in found[:limit]], len(found) > limit))


@router.get("/v1/files/{file_id}", summary="Look at a file")
async def get_file(file_id: str, request: Request) -> FileObject:
    """What is known of a file."""
    return file_object(await own_file(request, file_id))


@router.get(
    "/v1/files/{file_id}/content",
    summary="Fetch a file",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def get_content(file_id: str, request: Request) -> Response:
    """The bytes of a file."""
    file = await own_file(request, file_id)
    pieces = storage_of(request.app.state).pieces(content_name(file_id))
    try:
        first = await asyncio.to_thread(_next, pieces)
    except FileNotFoundError as error:
        raise ApiError(
            404, f"The content of {file_id!r} is not in the storage any more.", code="file_not_found"
        ) from error
    return StreamingResponse(
        _pieces(first, pieces),
        media_type="application/octet-stream",
        headers={"Content-Length": str(file.size)},
    )


@router.delete("/v1/files/{file_id}", summary="Delete a file")
async def delete_file(file_id: str, request: Request) -> DeletedFile:
    """Removes a file and its content, unless a batch that has not ended reads it: 409."""
    file = await own_file(request, file_id)
    step, redis = remove_file(file_id, file.owner), state_of(request).redis
    reader = await persist(lambda: step.run(redis), ENQUEUE_SECONDS, "delete the file")
    if reader:
        raise ApiError(
            409,
            f"The batch {reader.decode()!r} reads {file_id!r} and has not ended: cancel it first, or wait.",
            code="file_in_use",
            headers={"x-should-retry": "false"},
        )
    await _remove_content(request, file_id)
    return DeletedFile(id=file_id, deleted=True)


async def _remove_content(request: Request, file_id: str) -> None:
    await asyncio.to_thread(storage_of(request.app.state).remove, content_name(file_id))
    redis = state_of(request).redis
    await persist(lambda: redis.zrem(EXPIRING_FILES, file_id), ENQUEUE_SECONDS, "forget the file")


async def own_file(request: Request, file_id: str) -> StoredFile:
    """A file of the caller's key.

    Raises:
        ApiError: 404, there is none of this id, it is another key's, or its time is over.
    """
    redis = state_of(request).redis
    values = await persist(lambda: redis.hgetall(file_key(file_id)), ENQUEUE_SECONDS, "look for the file")
    file = StoredFile.decode(file_id, values) if values else None
    if file is None or file.owner != caller_of(request).name or not _lives(file):
        raise ApiError(404, f"There is no file {file_id!r}.", code="file_not_found")
    return file


def _lives(file: StoredFile) -> bool:
    return not file.expires or time.time() < file.expires


async def _pieces(piece: bytes | None, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece is not None:
        yield piece
        piece = await asyncio.to_thread(_next, pieces)


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
