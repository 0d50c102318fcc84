"""The end of a batch: the parts of its chunks, put together as its output and error files. All of it blocks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

import orjson

from api.batches.chunks import line_id_of
from api.batches.lines import expired_line, lines_of, parse_line
from api.batches.places import ERRORS, KINDS, index_name, part_name
from api.batches.validating import Index
from api.files.storage import Storage, content_name
from scheduler.batches import Winner


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
        winners: chunk that is done -> the claim whose parts hold it.
        expired: whether lines that are not done are told as expired; else they are left out.
    """

    storage: Storage
    batch_id: str
    input_name: str
    endpoint: str
    file_ids: Mapping[str, str]
    chunks: int
    winners: Mapping[int, Winner]
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
                        append(ERRORS, line)
                        expired += 1
        return Ended(sizes, expired)

    def _parts(self, chunk: int) -> dict[str, bytes]:
        """What is done of a chunk; raises FileNotFoundError for a part that was written and is not there."""
        winner = self.winners.get(chunk)
        return {
            kind: self.storage.read(part_name(self.batch_id, str(chunk), winner.token, kind))
            if winner and kind in winner.kinds
            else b""
            for kind in KINDS
        }

    def _unanswered(self, chunk: int, parts: Mapping[str, bytes]) -> Iterator[bytes]:
        """The lines of a chunk that are in none of its parts."""
        done = {orjson.loads(line)["custom_id"] for kind in KINDS for line in lines_of(parts[kind])}
        for line in lines_of(read_chunk(self.storage, self.batch_id, self.input_name, chunk)):
            custom_id = parse_line(line, self.endpoint).custom_id
            if custom_id not in done:
                yield expired_line(line_id_of(self.batch_id, custom_id), custom_id)


def read_chunk(storage: Storage, batch_id: str, input_name: str, chunk: int) -> bytes:
    """The lines of a chunk."""
    offsets = Index.decode(storage.read(index_name(batch_id))).offsets
    return storage.read(input_name, offsets[chunk], offsets[chunk + 1])
