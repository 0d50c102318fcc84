"""An upload on its way into the storage: the fields of a form, and one file that is never whole in memory."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import ApiError, bad_request
from api.files.storage import Storage

if TYPE_CHECKING:  # there is no such name at run time
    from python_multipart.multipart import MultipartCallbacks

LONGEST_FIELD = 65_536
"""Bytes of all fields that are no file together."""


@dataclass
class Upload:
    """What a form held.

    Attributes:
        fields: by name.
        filename: as the client called the file; None when there was none.
        bytes: of the file.
    """

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    bytes: int = 0


async def receive_upload(request: Request, storage: Storage, name: str, limit: int) -> Upload:
    """Reads a multipart form and writes its `file` into the storage; what fails leaves nothing there.

    Raises:
        ApiError: 400 it is no such form, or has no file; 413 the file is over the limit.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise bad_request("Send the file as multipart/form-data, with the fields file and purpose.", "file")
    form = _Form(limit)
    parser = MultipartParser(options[b"boundary"], form.callbacks())
    with ExitStack() as open_file:
        file: BinaryIO | None = None
        try:
            async for piece in request.stream():
                parser.write(piece)
                if form.filename is not None and file is None:
                    file = await asyncio.to_thread(open_file.enter_context, storage.writing(name))
                if file is not None and form.pending:
                    await asyncio.to_thread(file.write, b"".join(form.pending))
                    form.pending.clear()
            parser.finalize()
        except MultipartParseError as error:
            raise bad_request(f"The body is not a multipart form: {error}.", "file") from error
        if not form.ended:
            raise bad_request("The body ends in the middle of the form.", "file")
        if form.filename is None:
            raise bad_request("There is no file: send it as the field file.", "file", "missing")
        # Its last bytes reach the disk.
        await asyncio.to_thread(open_file.close)
    return Upload(form.fields, form.filename, form.bytes)


class _Form:
    """What the parser calls back with; the bytes of the file wait in `pending` until they are written."""

    def __init__(self, limit: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.bytes = 0
        self.pending: list[bytes] = []
        self.ended = False
        self._limit = limit
        self._small = 0
        self._header = [bytearray(), bytearray()]
        self._name = ""
        self._value = bytearray()
        self._in_file = False

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._name, self._value, self._in_file = "", bytearray(), False

    def _end_header(self) -> None:
        name, value = (bytes(each).decode("utf-8", "replace") for each in self._header)
        self._header = [bytearray(), bytearray()]
        if name.lower() != "content-disposition":
            return
        message = Message()
        message["content-disposition"] = value
        self._name = str(message.get_param("name", "", "content-disposition"))
        filename = message.get_filename()
        if self._name == "file":
            if self.filename is not None:
                raise bad_request("There are two files: send one.", "file")
            self.filename, self._in_file = filename or "upload", True

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.bytes += end - start
            if self.bytes > self._limit:
                raise ApiError(
                    413,
                    f"The file is over the limit of {self._limit} bytes: send several, or raise --max-file-bytes.",
                    param="file",
                    code="file_too_large",
                    headers={"Connection": "close"},
                )
            self.pending.append(data[start:end])
            return
        self._small += end - start
        if self._small > LONGEST_FIELD:
            raise bad_request(f"The fields of the form are over {LONGEST_FIELD} bytes.", self._name or None)
        self._value.extend(data[start:end])

    def _end_part(self) -> None:
        if not self._in_file and self._name:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True
