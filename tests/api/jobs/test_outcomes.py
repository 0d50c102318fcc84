"""What becomes of a job by its reply."""

import pytest

from api.jobs.outcomes import LONGEST_PAUSE_MS, SHORT_PAUSE_MS, Ended, Returned, outcome_of
from scheduler.jobs import JobStatus


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Ended(JobStatus.SUCCEEDED)),
        (400, {}, Ended(JobStatus.FAILED)),
        (401, {}, Ended(JobStatus.FAILED)),
        (424, {}, Ended(JobStatus.FAILED)),
        (500, {"x-should-retry": "false"}, Ended(JobStatus.FAILED)),
        (504, {}, Ended(JobStatus.EXPIRED)),
        (503, {"retry-after": "5"}, Returned(SHORT_PAUSE_MS)),
        (429, {"retry-after": "3", "retry-after-ms": "2100"}, Returned(2_100)),
        (429, {"retry-after": "3"}, Returned(3_000)),
        (429, {"retry-after": "soon"}, Returned(SHORT_PAUSE_MS)),
        (429, {"retry-after-ms": "0"}, Returned(1)),
        (429, {"retry-after": "9" * 5_000}, Returned(LONGEST_PAUSE_MS)),
        (429, {}, Returned(SHORT_PAUSE_MS)),
    ],
)
def test_a_reply_ends_a_job_or_lets_it_wait_again(
    status: int, headers: dict[str, str], outcome: Ended | Returned
) -> None:
    assert outcome_of(status, headers) == outcome
