"""The life of batches on a real Redis, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from scheduler import batches
from scheduler.batches import FINISH, VALIDATE, Counted, Creation, Part, Winner, Word
from scheduler.connection import connect
from scheduler.files import StoredFile, add_file, remove_file
from scheduler.keys import BATCH_OWNERS, EXPIRING_FILES, batch_chunks, batch_claims, batch_key, file_key, open_batches

LATER = 4_000_000_000
"""Unix seconds."""

ONE = Counted(1, 0, 5)


@dataclass
class Book:
    """The batches of one Redis, with short words for their steps."""

    redis: Redis
    moment: int = 0

    def upload(self, file_id: str, owner: str = "ann", expires: int = LATER) -> str:
        add_file(StoredFile(file_id, owner, "in", 1, "batch", 1, expires), self._next()).run_blocking(self.redis)
        return file_id

    def create(
        self,
        batch_id: str,
        owner: str = "ann",
        input_id: str = "",
        expires: int = LATER,
        key: str = "",
        asked: str = "",
    ) -> tuple[Creation, str]:
        input_id = input_id or self.upload(f"file-{batch_id}", owner)
        fields = {"input": input_id, "expires": expires}
        step = batches.create_batch(batch_id, owner, input_id, self._next(), fields, key, asked)
        return Creation.of(step.run_blocking(self.redis))

    def claim(self, *, chunks: bool = True, stages: bool = True, slow: Sequence[str] = (), token: str = "t") -> Any:
        step = batches.claim_part(token, self._next(), chunks=chunks, stages=stages, slow=slow)
        return batches.claimed_part(step.run_blocking(self.redis), token)

    def started(self, batch_id: str, owner: str = "ann", chunks: int = 3) -> None:
        """A batch with so many chunks, validated."""
        assert self.create(batch_id, owner) == (Creation.NEW, batch_id)
        part = Part(batch_id, VALIDATE, "v", owner)
        self.redis.zadd(batch_claims(batch_id), {VALIDATE: LATER * 1000})
        self.redis.hset(f"{batch_key(batch_id)}:holders", VALIDATE, "v")
        assert batches.start_batch(part, 1, chunks, chunks, "m").run_blocking(self.redis) == 1

    def commit(self, part: Part, kinds: Sequence[str] = ("output",)) -> int:
        return int(batches.commit_chunk(part, ONE, kinds, 1).run_blocking(self.redis))

    def end(self, part: Part, status: str = "completed", files: Sequence[StoredFile] = ()) -> int:
        owner, input_id = part.owner, f"file-{part.batch_id}"
        step = batches.end_batch(part, owner, input_id, status, {f"{status}_at": 1}, files, 1, b"")
        return int(step.run_blocking(self.redis))

    def status(self, batch_id: str) -> str:
        found: bytes = self.redis.hget(batch_key(batch_id), "status")
        return found.decode()

    def lose(self, part: Part) -> None:
        """Lets its lease run out."""
        self.redis.zadd(batch_claims(part.batch_id), {part.name: 1})

    def _next(self) -> int:
        self.moment += 1
        return self.moment


@pytest.fixture
def book(clean_redis_url: str) -> Iterator[Book]:
    with connect(clean_redis_url) as redis:
        yield Book(redis)


def test_owners_take_turns_however_many_batches_one_has(book: Book) -> None:
    for number in range(5):
        book.started(f"batch_a{number}")
    book.started("batch_b", "bob")
    turns = [book.claim() for _ in range(6)]
    assert [part.owner for part in turns] == ["ann", "bob"] * 3
    assert {part.batch_id for part in turns if part.owner == "ann"} == {"batch_a0", "batch_a1", "batch_a2"}
    assert [part.name for part in turns if part.owner == "bob"] == ["0", "1", "2"]


def test_an_owner_that_hands_in_again_does_not_lose_or_win_a_turn(book: Book) -> None:
    book.started("batch_a")
    book.started("batch_b", "bob")
    assert book.claim().owner == "ann"
    book.started("batch_a2")
    book.started("batch_b2", "bob")
    assert book.claim().owner == "bob"


def test_a_slow_owner_has_stages_and_no_chunks(book: Book) -> None:
    book.started("batch_a")
    assert book.claim(slow=["ann"]) is None
    book.create("batch_a2")
    assert book.claim(slow=["ann"]).name == VALIDATE
    assert book.claim().name == "0"


def test_only_wanted_kinds_of_parts_are_claimed(book: Book) -> None:
    book.create("batch_new")
    book.started("batch_a")
    assert book.claim(stages=False).batch_id == "batch_a"
    assert book.claim(chunks=False).batch_id == "batch_new"
    assert book.claim(chunks=False) is None


def test_a_chunk_counts_once_and_keeps_what_was_written(book: Book) -> None:
    book.started("batch_a", chunks=2)
    first = book.claim(token="one")
    book.lose(first)
    second = book.claim(token="two")
    assert (second.name, book.commit(first)) == (first.name, 0)
    assert (book.commit(second, ["output", "errors"]), book.commit(second)) == (1, 0)
    kept = book.redis.hget(batch_chunks("batch_a"), first.name)
    assert Winner.decode(kept) == Winner("two", ("output", "errors"))
    assert book.redis.hmget(batch_key("batch_a"), "completed", "tokens") == [b"1", b"5"]
    assert book.status("batch_a") == "in_progress"
    assert book.commit(book.claim(token="three")) == 1
    assert (book.status("batch_a"), book.claim().name) == ("finalizing", FINISH)


def test_a_batch_goes_to_its_end_when_nobody_has_a_chunk_of_it(book: Book) -> None:
    book.started("batch_a")
    part = book.claim()
    batches.cancel_batch("batch_a", "ann", 1).run_blocking(book.redis)
    assert book.claim() is None
    assert batches.renew_parts([part]).run_blocking(book.redis) == [Word.STOP.encode()]
    assert book.commit(part) == 1
    end = book.claim()
    assert (end.name, book.end(end, "cancelled"), book.end(end, "completed")) == (FINISH, 1, 0)
    assert book.status("batch_a") == "cancelled"


def test_a_validation_that_fails_does_not_undo_a_cancellation(book: Book) -> None:
    book.create("batch_a")
    part = book.claim()
    batches.cancel_batch("batch_a", "ann", 1).run_blocking(book.redis)
    assert book.end(part, "failed") == 0
    assert (book.status("batch_a"), book.claim().name) == ("cancelling", FINISH)


def test_a_batch_whose_time_is_over_is_claimed_for_its_end(book: Book) -> None:
    book.create("batch_a", expires=1)
    assert book.claim().name == FINISH
    assert book.redis.hget(batch_key("batch_a"), "ending") == b"expired"


def test_a_file_is_not_removed_while_a_batch_reads_it(book: Book) -> None:
    book.started("batch_a", chunks=1)
    gone = remove_file("file-batch_a", "ann")
    assert gone.run_blocking(book.redis) == b"batch_a"
    assert book.redis.exists(file_key("file-batch_a"))
    book.commit(book.claim())
    assert book.end(book.claim()) == 1
    assert gone.run_blocking(book.redis) == b""
    assert not book.redis.exists(file_key("file-batch_a"))
    assert book.redis.zscore(EXPIRING_FILES, "file-batch_a") == 0, "its content is to go"


def test_a_batch_that_has_ended_leaves_its_files_and_nothing_else(book: Book) -> None:
    book.started("batch_a", chunks=1)
    book.commit(book.claim())
    file = StoredFile("file-out", "ann", "out", 3, "batch_output", 1, LATER)
    assert book.end(book.claim(), files=[file]) == 1
    assert StoredFile.decode("file-out", book.redis.hgetall(file_key("file-out"))) == file
    assert 0 < book.redis.ttl(batch_key("batch_a")) <= 30 * 86_400
    assert book.redis.zscore(EXPIRING_FILES, "batch_a") > 1_000_000_000, "its parts are to go"
    assert book.claim() is None
    for key in (BATCH_OWNERS, open_batches("ann"), batch_claims("batch_a"), batch_chunks("batch_a")):
        assert not book.redis.exists(key), key


def test_a_batch_needs_a_living_file_of_its_owner(book: Book) -> None:
    none, new = (Creation.NONE, ""), (Creation.NEW, "batch_a")
    assert book.create("batch_a", input_id="file-none") == none
    assert book.create("batch_a", input_id=book.upload("file-b", "bob")) == none
    assert book.create("batch_a", input_id=book.upload("file-old", expires=1)) == none
    assert book.create("batch_a", input_id=book.upload("file-new")) == new
    assert book.create("batch_a", input_id="file-new") == new, "handed in again, it is the same"
    assert book.redis.zcard(open_batches("ann")) == 1


def test_an_idempotency_key_makes_one_batch_for_its_owner(book: Book) -> None:
    assert book.create("batch_a", key="k", asked="this") == (Creation.NEW, "batch_a")
    assert book.create("batch_b", key="k", asked="this") == (Creation.SAME, "batch_a")
    assert book.create("batch_c", key="k", asked="that") == (Creation.OTHER, "batch_a")
    assert book.create("batch_d", "bob", key="k", asked="that") == (Creation.NEW, "batch_d")
    assert book.create("batch_e", key="l", asked="this") == (Creation.NEW, "batch_e")
    assert book.redis.zrange(open_batches("ann"), 0, -1) == [b"batch_a", b"batch_e"]
