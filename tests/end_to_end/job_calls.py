"""Jobs over HTTP, in short words."""

import time
from typing import Any

import httpx

from scheduler.keys import JOB_COUNTERS
from tests.conftest import eventually
from tests.server import Millpond, redis_of

FINAL = ("succeeded", "failed", "cancelled", "expired")


class Caller:
    """A client with one key."""

    def __init__(self, server: Millpond, key: str | None = None) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=server.url, headers=self._headers, timeout=90)

    def submit(self, endpoint: str, body: Any, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/jobs", json={"endpoint": endpoint, "body": body, **fields}, headers=headers)

    def submitted(self, endpoint: str, body: Any, **fields: Any) -> str:
        """The id of a job that is accepted."""
        reply = self.submit(endpoint, body, **fields)
        assert reply.status_code == 202, reply.text
        job: dict[str, Any] = reply.json()
        assert reply.headers["location"] == f"/v1/jobs/{job['id']}"
        return str(job["id"])

    def get(self, job_id: str, wait: float = 0, etag: str | None = None) -> httpx.Response:
        headers = {"If-None-Match": etag} if etag else {}
        return self.http.get(f"/v1/jobs/{job_id}", params={"wait": wait} if wait else {}, headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        reply = self.get(job_id)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def ended(self, job_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The job once it has ended, by long polls."""
        until = time.monotonic() + seconds
        while (job := self.get(job_id, wait=20).json())["status"] not in FINAL:
            assert time.monotonic() < until, job
        found: dict[str, Any] = job
        return found

    def stands(self, job_id: str, status: str) -> dict[str, Any]:
        return eventually(lambda: job if (job := self.job(job_id))["status"] == status else None, 30)  # type: ignore[return-value]

    def result(self, job_id: str) -> httpx.Response:
        return self.http.get(f"/v1/jobs/{job_id}/result")


def submissions(server: Millpond) -> int:
    """How many jobs there have been."""
    with redis_of(server) as redis:
        return int(redis.hget(JOB_COUNTERS, "submitted") or 0)
