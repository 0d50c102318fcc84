"""OpenAI's files: upload, list, look at, fetch and delete what batches read and write."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.errors import ApiError
from api.files.storage import Storage, content_name, storage_of
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
from scheduler.files import StoredFile, add_file, remove_file
from scheduler.keys import file_key, files_of
from scheduler.results import ENQUEUE_SECONDS

router = APIRouter()

MOST_LISTED = 10_000

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
            }
        }
    },
}


@router.post("/v1/files", summary="Upload a file", openapi_extra={"requestBody": _FORM})
async def upload_file(request: Request) -> FileObject:
    """Takes a file for a batch, of up to --max-file-bytes; it is never whole in memory."""
    state, storage = state_of(request), storage_of(request.app.state)
    file_id = f"file-{uuid.uuid4().hex}"
    name = content_name(file_id)
    upload = await receive_upload(request, storage, name, state.options.max_file_bytes)
    try:
        checked_purpose(upload.fields)
        life = checked_life(upload.fields.get("expires_after[anchor]"), upload.fields.get("expires_after[seconds]"))
        now = time.time_ns()
        created = now // 10**9
        assert upload.filename is not None
        file = StoredFile(
            file_id,
            caller_of(request).name,
            upload.filename,
            upload.bytes,
            upload.fields["purpose"],
            created,
            created + life,
        )
        await persist(lambda: add_file(file, now // 1000).run(state.redis), ENQUEUE_SECONDS, "keep the file")
    except BaseException:
        await asyncio.to_thread(storage.remove, name)
        raise
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
    storage = storage_of(request.app.state)
    return StreamingResponse(
        _pieces(storage, content_name(file_id)),
        media_type="application/octet-stream",
        headers={"Content-Length": str(file.size)},
    )


@router.delete("/v1/files/{file_id}", summary="Delete a file")
async def delete_file(file_id: str, request: Request) -> DeletedFile:
    """Removes a file and its content. A batch that reads it fails."""
    file = await own_file(request, file_id)
    await asyncio.to_thread(storage_of(request.app.state).remove, content_name(file_id))
    await remove_file(file_id, file.owner).run(state_of(request).redis)
    return DeletedFile(id=file_id, deleted=True)


async def own_file(request: Request, file_id: str, param: str | None = None) -> StoredFile:
    """A file of the caller's key.

    Raises:
        ApiError: 404, there is none of this id, it is another key's, or its time is over.
    """
    values = await state_of(request).redis.hgetall(file_key(file_id))
    file = StoredFile.decode(file_id, values) if values else None
    if file is None or file.owner != caller_of(request).name or not _lives(file):
        raise ApiError(404, f"There is no file {file_id!r}.", param=param, code="file_not_found")
    return file


def _lives(file: StoredFile) -> bool:
    return not file.expires or time.time() < file.expires


async def _pieces(storage: Storage, name: str) -> AsyncIterator[bytes]:
    pieces = storage.pieces(name)
    while (piece := await asyncio.to_thread(_next, pieces)) is not None:
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
