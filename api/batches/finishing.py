"""The end of a batch: the parts of its chunks, put together as its output and error files. All of it blocks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

import orjson

from api.batches.chunks import line_id_of
from api.batches.lines import lines_of, parse_line, unanswered_line
from api.batches.places import index_name, part_name
from api.batches.validating import Index
from api.files.storage import Storage, content_name

KINDS = ("output", "errors")


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a batch.

    Attributes:
        sizes: bytes of the output and the error file; a file without any is not there.
        expired: lines that got no reply.
    """

    sizes: Mapping[str, int]
    expired: int


@dataclass(frozen=True, slots=True)
class Ending:
    """What a batch's end is made of.

    Attributes:
        file_ids: of the output and the error file.
        chunks: how many there are.
        winners: chunk that is done -> the token whose parts hold it.
        expired: whether lines that are not done are told as expired; else they are left out.
    """

    storage: Storage
    batch_id: str
    input_name: str
    endpoint: str
    file_ids: Mapping[str, str]
    chunks: int
    winners: Mapping[str, str]
    expired: bool

    def write(self) -> Ended:
        """Writes both files, in the order of the input; done anew, it writes the same."""
        expired, sizes = 0, dict.fromkeys(KINDS, 0)
        with ExitStack() as open_files:
            files: dict[str, BinaryIO] = {}

            def append(kind: str, data: bytes) -> None:
                if data and kind not in files:
                    writing = self.storage.writing(content_name(self.file_ids[kind]))
                    files[kind] = open_files.enter_context(writing)
                if data:
                    files[kind].write(data)
                    sizes[kind] += len(data)

            for chunk in range(self.chunks):
                parts = self._parts(chunk)
                for kind in KINDS:
                    append(kind, parts[kind])
                if self.expired:
                    for line in self._unanswered(chunk, parts):
                        append("errors", line)
                        expired += 1
        return Ended(sizes, expired)

    def _parts(self, chunk: int) -> dict[str, bytes]:
        """What is done of a chunk."""
        token = self.winners.get(str(chunk))
        if token is None:
            return dict.fromkeys(KINDS, b"")
        found = {}
        for kind in KINDS:
            try:
                found[kind] = self.storage.read(part_name(self.batch_id, str(chunk), token, kind))
            except FileNotFoundError:
                found[kind] = b""
        return found

    def _unanswered(self, chunk: int, parts: Mapping[str, bytes]) -> Iterator[bytes]:
        """The lines of a chunk that are in none of its parts."""
        done = {orjson.loads(line)["custom_id"] for kind in KINDS for line in lines_of(parts[kind])}
        for line in lines_of(read_chunk(self.storage, self.batch_id, self.input_name, chunk)):
            custom_id = parse_line(line, self.endpoint).custom_id
            if custom_id not in done:
                line_id = line_id_of(self.batch_id, custom_id)
                yield unanswered_line(line_id, custom_id, "batch_expired", "The batch expired before its turn.")


def read_chunk(storage: Storage, batch_id: str, input_name: str, chunk: int) -> bytes:
    """The lines of a chunk."""
    offsets = Index.decode(storage.read(index_name(batch_id))).offsets
    return storage.read(input_name, offsets[chunk], offsets[chunk + 1])
