"""Both ledgers, by one suite: claims that run out, commits of which the first wins, and plans that do not change."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from api.bulk.errors import BulkError
from api.bulk.ledger import END, ChunkResult, Ledger, PlannedChunk, Totals
from api.bulk.redis_ledger import RedisLedger
from api.bulk.sqlite_ledger import SqliteLedger
from tests.conftest import eventually

Open = Callable[[], Ledger]

CHUNKS = [PlannedChunk(number, f'{{"digest": "{number}"}}', 10) for number in range(4)]


def result(part: str, bad: int = 0) -> ChunkResult:
    return ChunkResult(part, "errors" if bad else None, 10, bad, 2, "{}")


@pytest.fixture(params=["sqlite", "redis"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path, clean_redis_url: str) -> Iterator[Open]:
    """Opens the same ledger, as another process would."""
    opened: list[Ledger] = []

    def open_one() -> Ledger:
        made: Ledger
        if request.param == "sqlite":
            made = SqliteLedger(tmp_path / "ledger.sqlite")
        else:
            made = RedisLedger(clean_redis_url, "b")
        opened.append(made)
        return made

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def ledger(open_again: Open) -> Ledger:
    made = open_again()
    assert made.record(CHUNKS) is None
    return made


def test_the_first_settings_are_those_that_every_process_finds(open_again: Open) -> None:
    assert open_again().settings("one") == "one"
    assert open_again().settings("two") == "one"


def test_recording_the_same_plan_again_changes_nothing_and_another_is_told(ledger: Ledger, open_again: Open) -> None:
    assert open_again().record(CHUNKS) is None
    assert ledger.totals() == Totals(planned=40)
    changed = [*CHUNKS[:2], PlannedChunk(2, '{"digest": "x"}', 10)]
    assert ledger.record(changed) == 2
    assert ledger.totals().planned == 40


def test_after_the_end_no_chunk_is_recorded(ledger: Ledger) -> None:
    end = PlannedChunk(END, "after 4", 0)
    assert ledger.record([end]) is None
    assert ledger.record([*CHUNKS, PlannedChunk(4, "{}", 10)]) == 4
    assert ledger.record([PlannedChunk(END, "after 5", 0)]) == END
    assert ledger.record([*CHUNKS, end]) is None
    assert ledger.totals().planned == 40
    assert ledger.open_chunks(10) == [0, 1, 2, 3]


def test_a_chunk_has_one_holder(ledger: Ledger, open_again: Open) -> None:
    assert ledger.claim(1, "mine", 60) == CHUNKS[1].chunk
    assert open_again().claim(1, "yours", 60) is None
    assert ledger.open_chunks(10) == [0, 2, 3]
    assert ledger.open_chunks(2) == [0, 2]
    assert ledger.claim(99, "mine", 60) is None


def test_a_claim_whose_reply_was_lost_is_given_again(ledger: Ledger) -> None:
    assert ledger.claim(1, "mine", 60) == ledger.claim(1, "mine", 60) == CHUNKS[1].chunk


def test_a_claim_that_runs_out_is_anybodys_and_cannot_be_renewed_then(ledger: Ledger, open_again: Open) -> None:
    ledger.claim(0, "mine", 0.05)
    other = open_again()
    assert eventually(lambda: other.claim(0, "yours", 60)) == CHUNKS[0].chunk
    assert not ledger.renew(0, "mine", 60)
    assert not ledger.release(0, "mine")
    assert ledger.open_chunks(10) == [1, 2, 3]


def test_an_open_chunk_is_one_whose_claim_ran_out(ledger: Ledger) -> None:
    ledger.claim(0, "mine", 0.05)
    eventually(lambda: 0 in ledger.open_chunks(10))


def test_a_claim_that_is_renewed_lasts(ledger: Ledger) -> None:
    ledger.claim(0, "mine", 0.2)
    assert ledger.renew(0, "mine", 60)
    ledger.claim(1, "mine", 0.2)
    eventually(lambda: 1 in ledger.open_chunks(10))
    assert 0 not in ledger.open_chunks(10)


def test_a_chunk_that_is_given_back_is_open_in_its_place(ledger: Ledger) -> None:
    ledger.claim(0, "mine", 60)
    ledger.claim(1, "mine", 60)
    assert ledger.release(0, "mine")
    assert ledger.open_chunks(10) == [0, 2, 3]
    assert ledger.claim(0, "yours", 60)


def test_the_first_commit_wins_whoever_holds_the_chunk(ledger: Ledger, open_again: Open) -> None:
    ledger.claim(0, "slow", 0.05)
    other = open_again()
    eventually(lambda: other.claim(0, "quick", 60))
    assert ledger.commit(0, result("slow", bad=1))
    assert not other.commit(0, result("quick"))
    assert other.result(0) == result("slow", bad=1)
    assert other.totals() == Totals(planned=40, done=1, rows=10, bad=1, duplicates=2)
    assert other.claim(0, "third", 60) is None
    assert ledger.open_chunks(10) == [1, 2, 3]
    assert ledger.result(1) is None


def test_the_end_is_claimed_and_committed_without_counting(ledger: Ledger) -> None:
    ledger.record([PlannedChunk(END, "after 4", 0)])
    assert ledger.claim(END, "mine", 60)
    assert ledger.claim(END, "yours", 60) is None
    assert ledger.commit(END, result("out"))
    assert ledger.result(END) == result("out")
    assert ledger.totals() == Totals(planned=40)


def test_many_claimants_of_one_chunk_are_one_holder(ledger: Ledger, open_again: Open) -> None:
    ledgers = [open_again() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda number: ledgers[number].claim(2, str(number), 60), range(8)))
    assert [claim for claim in claims if claim is not None] == [CHUNKS[2].chunk]


def test_what_is_cleared_is_as_new(ledger: Ledger) -> None:
    ledger.settings("one")
    ledger.claim(0, "mine", 60)
    ledger.commit(1, result("part"))
    ledger.clear()
    assert ledger.settings("two") == "two"
    assert ledger.totals() == Totals()
    assert ledger.record(CHUNKS) is None
    assert ledger.open_chunks(10) == [0, 1, 2, 3]


def test_two_backfills_in_one_redis_do_not_meet(clean_redis_url: str) -> None:
    one, other = RedisLedger(clean_redis_url, "one"), RedisLedger(clean_redis_url, "other")
    one.record(CHUNKS)
    assert other.open_chunks(10) == []
    one.clear()
    one.close()
    other.close()
    with Redis.from_url(clean_redis_url) as redis:
        assert redis.keys("*") == []


def test_a_commit_in_redis_that_is_repeated_is_the_same_commit(clean_redis_url: str) -> None:
    ledger = RedisLedger(clean_redis_url, "b")
    ledger.record(CHUNKS)
    assert ledger.commit(0, result("mine"))
    assert ledger.commit(0, result("mine"))
    assert ledger.totals().done == 1
    ledger.close()


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("something else " * 100)
    with pytest.raises(BulkError, match="cannot be used"):
        SqliteLedger(path)
