"""`kill -9` of each role while jobs run: each ends once, and right."""

import itertools
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from redis.exceptions import RedisError

from scheduler.keys import JOB_COUNTERS, JOB_NEWS, JOBS
from tests.conftest import eventually
from tests.end_to_end.load import TEXTS, is_right, right_vectors
from tests.end_to_end.waiting import held_still, metric
from tests.server import Millpond, client_of, redis_of, serving

ROLES = {"api": "api", "jobs": "api.jobs", "workers": "workers", "scheduler": "scheduler", "redis": "redis"}

SOAK_JOBS = int(os.environ.get("MILLPOND_SOAK_JOBS", "5000"))
SOAK_SECONDS = float(os.environ.get("MILLPOND_SOAK_SECONDS", "300"))
KILL_EVERY_SECONDS = float(os.environ.get("MILLPOND_SOAK_KILL_EVERY", "60"))


@pytest.fixture
def server() -> Iterator[Millpond]:
    with serving("--api-workers", "2", "--job-workers", "2") as running:
        yield running


def texts_of(number: int) -> list[str]:
    """What job `number` embeds."""
    return [TEXTS[(number + offset) % len(TEXTS)] for offset in range(1 if number % 2 else 3)]


def submitted(client: httpx.Client, number: int, run: str, seconds: float = 60.0) -> str:
    """The id of job `number`, handed in again with the same idempotency key until a reply comes."""
    body = {"endpoint": "/v1/embeddings", "body": {"input": texts_of(number)}}
    until = time.monotonic() + seconds
    while True:
        try:
            reply = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"{run}-{number}"})
            if reply.status_code in (200, 202):
                return str(reply.json()["id"])
            assert reply.status_code == 503, reply.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, f"job {number} was not taken"
        time.sleep(0.05)


def counters(server: Millpond) -> dict[str, int]:
    with redis_of(server) as redis:
        return {name.decode(): int(count) for name, count in redis.hgetall(JOB_COUNTERS).items()}


def check_all_ended_right(server: Millpond, ids: Mapping[int, str], right: Mapping[str, np.ndarray]) -> int:
    """Every job has succeeded with its own vectors, and was counted once; the most attempts that one took."""
    assert len(set(ids.values())) == len(ids)
    most = 0
    with client_of(server) as client:
        for number, job_id in ids.items():
            job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
            assert job["status"] == "succeeded", job
            reply = client.get(f"/v1/jobs/{job_id}/result")
            assert is_right(reply, texts_of(number), dict(right)), (number, job)
            assert json.loads(reply.content) == job["result"]
            most = max(most, job["attempts"])
    assert counters(server) == {"submitted": len(ids), "succeeded": len(ids)}
    assert metric(server, "millpond_jobs") == 0
    assert metric(server, "millpond_jobs_ended_total", status="succeeded") == len(ids)
    with redis_of(server) as redis:
        assert not redis.exists(f"{JOBS}jobs:held"), "no owner is thought to have jobs running"
        assert redis.zcard(f"{JOBS}jobs:of:") == len(ids)
    return most


def test_killed_roles_cost_no_job(server: Millpond) -> None:
    right, run, ids = right_vectors(server), uuid.uuid4().hex, dict[int, str]()
    for role in ("jobs", "workers", "redis"):
        said = len(server.lines)
        numbers = range(len(ids), len(ids) + 200)
        with held_still(server):
            with client_of(server) as client, ThreadPoolExecutor(8) as pool:
                ids.update(zip(numbers, pool.map(lambda number: submitted(client, number, run), numbers), strict=True))
            eventually(lambda: metric(server, "millpond_jobs", status="running") == 128)
            if role != "workers":
                server.kill(ROLES[role])
        if role == "workers":
            server.kill(ROLES[role])
        server.wait_for_line(r"ended \(killed by SIGKILL\): starting it again", since=said)
        eventually(lambda: ended(server) == len(ids), 60)
    most = check_all_ended_right(server, ids, right)
    assert most >= 2, "a job whose process died was begun again"


def ended(server: Millpond) -> int:
    """How many jobs have succeeded; none while Redis is away."""
    try:
        return counters(server).get("succeeded", 0)
    except (RedisError, OSError):
        return 0


def test_jobs_that_run_at_a_stop_wait_for_the_next_start_and_long_polls_end() -> None:
    with serving("--job-workers", "1") as server, ThreadPoolExecutor(1) as pool:
        for each in server.role_processes("workers"):
            each.suspend()
        with client_of(server) as client:
            job_id = submitted(client, 0, "stop")
            eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["status"] == "running")
            (process,) = server.role_processes("api.jobs")
            process.terminate()
            found = eventually(
                lambda: job if (job := client.get(f"/v1/jobs/{job_id}").json())["status"] == "queued" else None, 15
            )
            assert found["attempts"] == 0, "that was no attempt"
            server.wait_for_line("of 1 jobs that ran, 1 wait again")
            for each in server.role_processes("workers"):
                each.resume()
            assert client.get(f"/v1/jobs/{job_id}", params={"wait": 30}).json()["status"] == "succeeded"
            server.role_processes("workers")[0].suspend()
            job_id = submitted(client, 1, "stop")
            polling = pool.submit(client.get, f"/v1/jobs/{job_id}", params={"wait": 60})
            with redis_of(server) as redis:
                eventually(lambda: redis.pubsub_numsub(JOB_NEWS)[0][1] == 2)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert polling.result(20).json()["status"] in ("queued", "running")
            assert time.monotonic() - began < 5


@pytest.mark.soak
def test_a_soak_of_jobs_while_everything_is_killed(server: Millpond) -> None:
    """Set MILLPOND_SOAK_JOBS, MILLPOND_SOAK_SECONDS and MILLPOND_SOAK_KILL_EVERY for a shorter one."""
    right, run, began = right_vectors(server), uuid.uuid4().hex, time.monotonic()
    chance, kills = random.Random(5), dict.fromkeys(ROLES, 0)
    # Each role once in each round, spread over it, so that they meet each other in every state.
    pause = KILL_EVERY_SECONDS / len(ROLES)
    pace = SOAK_SECONDS / SOAK_JOBS

    def hand_in(number: int) -> tuple[int, str]:
        time.sleep(max(0.0, began + number * pace - time.monotonic()))
        with client_of(server) as client:
            return number, submitted(client, number, run, 120)

    with ThreadPoolExecutor(16) as pool:
        submitting = [pool.submit(hand_in, number) for number in range(SOAK_JOBS)]
        order: list[str] = []
        for count in itertools.count(1):
            if began + count * pause > began + SOAK_SECONDS:
                break
            time.sleep(max(0.0, began + count * pause - time.monotonic()))
            order = order or chance.sample(list(ROLES), len(ROLES))
            role = order.pop()
            if eventually(lambda role=role: server.role_processes(ROLES[role]), 30):  # type: ignore[misc]
                server.kill(ROLES[role])
                kills[role] += 1
        ids = dict(each.result() for each in submitting)
    handed_in = time.monotonic() - began
    eventually(lambda: ended(server) == SOAK_JOBS, 300)
    took = time.monotonic() - began
    most = check_all_ended_right(server, ids, right)
    print(f"\n{SOAK_JOBS} jobs handed in within {handed_in:.0f} s, all ended after {took:.0f} s, each once and right")
    print(f"killed: {kills}; most attempts of a job: {most}; counters: {counters(server)}")
