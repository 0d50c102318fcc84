"""How a job is shown."""

import dataclasses

import orjson
import pytest

from api.protocol.jobs import etag_of, job_with_result, matches
from api.routes.jobs import retry_after
from scheduler.jobs import FoundJob, Job, JobReply, JobStatus
from scheduler.keys import Lane

JOB = Job("job_1", "/embed", Lane.JOB, JobStatus.SUCCEEDED, 1_000, 2_000, 3_500, 9_000, 8_000, 1, 200, 0)
JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.EXPIRED])
def test_a_reply_stands_in_its_job_in_its_very_bytes(status: JobStatus) -> None:
    body = b'{ "a":1.00,\n"b" : "\\u00e4" }'
    told = job_with_result(FoundJob(dataclasses.replace(JOB, status=status), JobReply(200, JSON, body), b""))
    name = b"result" if status is JobStatus.SUCCEEDED else b"error"
    assert b'"%s":%s' % (name, body) in told
    assert orjson.loads(told)["result_url"] == "/v1/jobs/job_1/result"


def test_a_reply_of_bytes_is_only_linked_to() -> None:
    frame = JobReply(200, {"content-type": "application/octet-stream"}, b"MPF1")
    told = orjson.loads(job_with_result(FoundJob(JOB, frame, b"")))
    assert (told["result"], told["error"], told["result_url"]) == (None, None, "/v1/jobs/job_1/result")


def test_a_change_of_status_attempts_or_place_is_another_etag() -> None:
    waiting = dataclasses.replace(JOB, status=JobStatus.QUEUED, place=3)
    changed = [
        waiting,
        dataclasses.replace(waiting, place=2),
        dataclasses.replace(waiting, status=JobStatus.RUNNING, place=0),
        dataclasses.replace(waiting, attempts=2),
        JOB,
    ]
    assert len({etag_of(each) for each in changed}) == len(changed)
    etag = etag_of(waiting)
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        assert matches(known, etag)
    for unknown in (None, "", '"x"', etag.strip('"')):
        assert not matches(unknown, etag)


@pytest.mark.parametrize(("age", "seconds"), [(0, 1), (9, 1), (50, 5), (3_600, 30), (-5, 1)])
def test_the_longer_a_job_takes_the_later_it_is_asked_after(age: float, seconds: int) -> None:
    assert retry_after(JOB, JOB.created_ms / 1000 + age) == seconds
