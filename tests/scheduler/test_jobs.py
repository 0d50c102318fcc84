"""The life of jobs on a real Redis, step by step."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from redis import Redis

from scheduler import jobs
from scheduler.connection import connect
from scheduler.jobs import ClaimedJob, FoundJob, Job, JobReply, JobStatus, NewJob, Submission
from scheduler.keys import JOB_COUNTERS, JOBS, Lane
from scheduler.webhooks import Webhook
from tests.conftest import eventually

ANSWER = JobReply(200, {"content-type": "application/json"}, b'{"a": 1}')
HOUR = 3_600_000


@dataclass
class Book:
    """The jobs of one Redis, with short words for their steps."""

    redis: Redis
    submitted: list[str] = field(default_factory=list)

    def submit(
        self,
        job_id: str,
        owner: str = "ann",
        lane: Lane = Lane.JOB,
        key: str = "",
        body: bytes = b"{}",
        ms: int = HOUR,
        width: int = 0,
    ) -> tuple[Submission, str]:
        new = NewJob(job_id, owner, "/v1/embeddings", body, {"accept": "x"}, lane, ms, width, b"", key)
        return Submission.of(jobs.submit(new).run_blocking(self.redis))

    def claim(self, count: int = 1, token: str = "t") -> list[ClaimedJob]:
        return jobs.claimed_jobs(token, jobs.claim(token, count).run_blocking(self.redis))

    def end(
        self,
        job_id: str,
        status: JobStatus = JobStatus.SUCCEEDED,
        reply: JobReply = ANSWER,
        kept_ms: int = HOUR,
        webhook: Webhook | None = None,
    ) -> bool:
        return bool(jobs.end(job_id, status, reply, kept_ms, webhook).run_blocking(self.redis))

    def look(self, job_id: str, owner: str = "ann", with_reply: bool = False) -> FoundJob | str:
        step = jobs.look(job_id, owner, with_reply=with_reply)
        return jobs.looked_at(job_id, step.run_blocking(self.redis))

    def job(self, job_id: str, owner: str = "ann") -> Job:
        found = self.look(job_id, owner)
        assert isinstance(found, FoundJob)
        return found.job

    def sweep(self) -> tuple[int, list[tuple[str, bytes]]]:
        return jobs.swept(jobs.sweep().run_blocking(self.redis))

    def list(self, after: str = "", status: str = "", newest_first: bool = True, owner: str = "ann") -> Any:
        return jobs.stretch(
            jobs.listed(owner, after, status, newest_first=newest_first).run_blocking(self.redis),
        )

    def counted(self) -> dict[str, int]:
        return {name.decode(): int(count) for name, count in self.redis.hgetall(JOB_COUNTERS).items()}

    def run_out(self, job_id: str) -> None:
        """Lets a job's lease run out."""
        self.redis.zadd(f"{JOBS}jobs:running", {job_id: 1})


@pytest.fixture
def book(clean_redis_url: str) -> Iterator[Book]:
    with connect(clean_redis_url) as redis:
        yield Book(redis)


def test_a_job_is_kept_run_and_its_reply_fetched(book: Book) -> None:
    assert book.submit("a", body=b"[1]") == (Submission.NEW, "a")
    assert (book.job("a").status, book.job("a").place) == (JobStatus.QUEUED, 1)
    (claimed,) = book.claim()
    assert (claimed.job_id, claimed.owner, claimed.path, claimed.body) == ("a", "ann", "/v1/embeddings", b"[1]")
    assert (claimed.headers, claimed.lane, claimed.attempts) == ({"accept": "x"}, Lane.JOB, 1)
    assert HOUR - 5_000 < claimed.left_ms <= HOUR
    running = book.job("a")
    assert (running.status, running.place, running.attempts) == (JobStatus.RUNNING, 0, 1)
    assert 0 < running.created_ms <= running.started_ms
    assert book.end("a")
    found = book.look("a", with_reply=True)
    assert isinstance(found, FoundJob)
    assert (found.job.status, found.job.code, found.reply) == (JobStatus.SUCCEEDED, 200, ANSWER)
    assert found.job.kept_ms == found.job.finished_ms + HOUR
    assert book.redis.hexists(f"{JOBS}job:a", "body") is False, "what it was is forgotten with its end"
    assert 0 < book.redis.pttl(f"{JOBS}job:a") <= HOUR


def test_the_first_end_counts_and_is_told_and_a_later_one_changes_nothing(book: Book) -> None:
    book.submit("a")
    book.claim()
    news = book.redis.pubsub()
    news.subscribe(f"{JOBS}jobs:news")
    webhook = Webhook("msg_1", "https://x/", [], b"{}")
    assert book.end("a", webhook=webhook)
    assert not book.end("a", JobStatus.FAILED, JobReply(500, {}, b"late"), webhook=Webhook("msg_2", "u", [], b""))
    assert not book.end("a", JobStatus.CANCELLED)
    assert book.job("a").status is JobStatus.SUCCEEDED
    assert book.counted() == {"submitted": 1, "succeeded": 1}
    assert book.redis.zrange(f"{JOBS}webhooks", 0, -1) == [b"msg_1"]
    heard = eventually(lambda: news.get_message(ignore_subscribe_messages=True))
    assert heard["data"] == b"a"
    assert news.get_message(ignore_subscribe_messages=True) is None
    news.close()
    assert not book.end("never was")


def test_owners_take_turns_and_each_has_its_own_order(book: Book) -> None:
    for number in range(4):
        book.submit(f"ann{number}")
    book.submit("bob0", "bob")
    book.submit("bob1", "bob")
    assert book.job("bob1", "bob").place == 2, "other owners' jobs are not counted"
    assert [each.job_id for each in book.claim(3)] == ["ann0", "bob0", "ann1"]
    assert [each.job_id for each in book.claim(9)] == ["bob1", "ann2", "ann3"]
    assert book.claim(9) == []


def test_who_submits_all_the_time_still_has_turns(book: Book) -> None:
    for number in range(5):
        book.submit(f"bob{number}", "bob")
    taken = []
    for number in range(4):
        book.submit(f"ann{number}")
        taken += [each.owner for each in book.claim()]
    assert taken == ["bob", "ann", "bob", "ann"]


def test_an_owners_jobs_are_ordered_by_lane_and_then_by_age(book: Book) -> None:
    for job_id, lane in [("b", Lane.BULK), ("j1", Lane.JOB), ("j2", Lane.JOB), ("i", Lane.INTERACTIVE)]:
        book.submit(job_id, lane=lane)
    assert [book.job(each).place for each in ("i", "j1", "j2", "b")] == [1, 2, 3, 4]
    assert [each.job_id for each in book.claim(9)] == ["i", "j1", "j2", "b"]


def test_no_more_of_an_owners_jobs_run_than_its_key_allows_and_one_that_ends_makes_room(book: Book) -> None:
    for number in range(6):
        book.submit(f"a{number}", width=2)
    book.submit("b", "bob")
    assert [each.job_id for each in book.claim(9)] == ["a0", "b", "a1"]
    assert book.claim(9) == []
    book.end("a0")
    (third,) = book.claim(9)
    jobs.give_back(third, 0, counts=False).run_blocking(book.redis)
    assert [each.job_id for each in book.claim(9)] == ["a2"]
    book.run_out("a1")
    book.sweep()
    assert [each.job_id for each in book.claim(9)] == ["a1"]
    book.end("a2", JobStatus.CANCELLED)
    book.end("a3", JobStatus.CANCELLED)
    assert [each.job_id for each in book.claim(9)] == ["a4"]
    for each in ("a1", "a4", "a5", "b"):
        book.end(each)
    assert not book.redis.exists(f"{JOBS}jobs:held")


def test_a_claim_ends_before_it_carries_too_many_bytes(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "CLAIMED_BYTES", 150)
    for number in range(4):
        book.submit(str(number), body=b"x" * 100)
    assert [len(book.claim(9)), len(book.claim(9)), len(book.claim(9))] == [2, 2, 0]


def test_a_job_whose_lease_ran_out_waits_again_in_its_old_place_with_one_attempt_more(book: Book) -> None:
    for each in ("a", "b"):
        book.submit(each)
    (first,) = book.claim(token="dies")
    assert book.sweep() == (0, [])
    book.run_out("a")
    assert book.sweep() == (1, [])
    assert (book.job("a").status, book.job("a").place) == (JobStatus.QUEUED, 1)
    assert jobs.renew([("a", "dies")]).run_blocking(book.redis) == [0], "it is another's now"
    assert jobs.give_back(first, 0, counts=True).run_blocking(book.redis) == 0
    (again,) = book.claim(token="lives")
    assert (again.job_id, again.attempts) == ("a", 2)
    assert book.end("a"), "whoever has it first, the late one included"


def test_a_lease_that_is_renewed_does_not_run_out(book: Book) -> None:
    book.submit("a")
    book.claim(token="t")
    book.run_out("a")
    assert jobs.renew([("a", "t"), ("b", "t")]).run_blocking(book.redis) == [1, 0]
    assert book.sweep() == (0, [])


@pytest.mark.parametrize("counts", [True, False])
def test_a_job_that_is_given_back_waits_and_its_owner_pauses(book: Book, counts: bool) -> None:
    book.submit("a")
    book.submit("b")
    book.submit("other", "bob")
    (job,) = book.claim()
    assert jobs.give_back(job, 300, counts=counts).run_blocking(book.redis) == 1
    book.submit("c")
    assert [each.job_id for each in book.claim(9)] == ["other"], "ann's pause holds for new jobs too"
    assert (book.job("a").place, book.job("a").attempts) == (1, int(counts))
    taken = eventually(lambda: book.claim(9), 5)
    assert [each.job_id for each in taken] == ["a", "b", "c"]
    assert taken[0].attempts == 1 + int(counts)


def test_a_queued_job_that_is_cancelled_is_never_run_and_a_running_one_is_lost_to_its_runner(book: Book) -> None:
    for each in ("a", "b"):
        book.submit(each)
    book.claim(token="t")
    for each in ("a", "b"):
        assert book.end(each, JobStatus.CANCELLED, jobs.NO_REPLY)
        assert not book.end(each, JobStatus.CANCELLED, jobs.NO_REPLY)
    assert jobs.renew([("a", "t")]).run_blocking(book.redis) == [0]
    assert not book.end("a"), "its result comes too late"
    assert book.claim(9) == []
    assert book.counted() == {"submitted": 2, "cancelled": 2}


def test_a_job_past_its_deadline_is_not_begun_and_is_found_by_the_sweep(book: Book) -> None:
    book.submit("a", ms=1)
    book.submit("b", ms=1)
    (found,) = eventually(lambda: [each for each in [book.sweep()[1]] if len(each) == 2], 5)
    assert found == [("a", b""), ("b", b"")]
    assert book.claim(9) == []
    assert book.end("a", JobStatus.EXPIRED, jobs.NO_REPLY)
    assert book.sweep() == (0, [("b", b"")])


def test_what_is_forgotten_is_gone_and_no_longer_listed_and_what_never_was_is_unknown(book: Book) -> None:
    book.submit("a")
    book.submit("b")
    book.end("a", kept_ms=1)
    assert eventually(lambda: book.look("a") == "gone", 5)
    assert book.look("a", "bob") == "none"
    assert book.look("b", "bob") == "none"
    assert book.look("c") == "none"
    assert book.redis.zcard(f"{JOBS}jobs:of:ann") == 2
    book.sweep()
    assert book.redis.zrange(f"{JOBS}jobs:of:ann", 0, -1) == [b"b"]
    assert book.redis.zrange(f"{JOBS}jobs:due", 0, -1) == [b"b"]
    assert book.look("a") == "gone"


def test_the_same_idempotency_key_gives_the_same_job_to_the_same_owner_and_call(book: Book) -> None:
    assert book.submit("a", key="k") == (Submission.NEW, "a")
    assert book.submit("a", key="k") == (Submission.NEW, "a"), "the same step, run again for want of an answer"
    assert book.submit("b", key="k") == (Submission.SAME, "a")
    assert book.submit("c", key="k", body=b"[]") == (Submission.OTHER, "a")
    assert book.submit("d", owner="bob", key="k") == (Submission.NEW, "d")
    book.end("a", kept_ms=1)
    assert eventually(lambda: book.submit("e", key="k") == (Submission.NEW, "e"), 5), "with the job its key is free"
    assert book.counted()["submitted"] == 3


def test_fifty_at_once_with_one_key_make_one_job(book: Book, clean_redis_url: str) -> None:
    def hand_in(number: int) -> tuple[Submission, str]:
        with connect(clean_redis_url) as redis:
            return Book(redis).submit(f"j{number}", key="k")

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(hand_in, range(50)))
    assert len({job_id for _, job_id in found}) == 1
    assert sorted(state for state, _ in found).count(Submission.NEW) == 1
    assert book.counted() == {"submitted": 1}


def test_a_listing_goes_both_ways_from_any_job_and_holds_one_owners(book: Book) -> None:
    for number in range(5):
        book.submit(f"a{number}")
    book.submit("b", "bob")
    book.end("a3")

    def ids(**how: Any) -> list[str]:
        return [each.job_id for each in book.list(**how)[1]]

    assert ids() == ["a4", "a3", "a2", "a1", "a0"]
    assert ids(newest_first=False, after="a2") == ["a3", "a4"]
    assert ids(after="a2") == ["a1", "a0"]
    assert ids(status="succeeded") == ["a3"]
    assert ids(owner="bob") == ["b"]
    assert book.list(after="b") is None
    assert book.list()[1][0].place == 4


def test_a_listing_looks_at_a_bounded_stretch(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LISTED", 2)
    for number in range(3):
        book.submit(f"a{number}")
    after, found = book.list(status="failed")
    assert (after, found) == ("a1", [])
    assert book.list(after=after, status="failed") == ("", [])


def test_headers_of_a_reply_are_kept_as_they_were(book: Book) -> None:
    book.submit("a")
    reply = JobReply(200, {"content-type": "application/octet-stream", "x": "\xe9"}, bytes(range(256)))
    book.end("a", reply=reply)
    found = book.look("a", with_reply=True)
    assert isinstance(found, FoundJob)
    assert found.reply == reply
    assert msgpack.unpackb(book.redis.hget(f"{JOBS}job:a", "reply_headers")) == reply.headers
