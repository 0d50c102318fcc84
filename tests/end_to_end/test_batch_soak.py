"""A batch of 50,000 lines: how long it takes, and how little of it is anywhere at once."""

import time
from collections.abc import Iterator

import openai
import psutil
import pytest

from tests.end_to_end.test_batches import FINAL, batch_of, content, line
from tests.server import Millpond, redis_of, serving

LINES = 50_000
ROLES = ("api", "api.jobs", "redis", "scheduler", "workers")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Millpond]:
    """A server with one process for jobs."""
    with serving("--job-workers", "1") as running:
        yield running


@pytest.mark.soak
def test_a_batch_of_50_000_lines_holds_little_at_once(server: Millpond) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=2)
    redis = redis_of(server)
    began, idle = time.monotonic(), redis.info("memory")["used_memory"]
    batch = batch_of(client, [line(str(number), f"pond {number}") for number in range(LINES)])
    seen, counts, in_redis, resident = [batch.status], [0], [0], dict.fromkeys(ROLES, 0)
    while seen[-1] not in FINAL:
        batch = client.batches.retrieve(batch.id)
        assert batch.request_counts
        counts.append(batch.request_counts.completed)
        if batch.status != seen[-1]:
            seen.append(batch.status)
        in_redis.append(redis.info("memory")["used_memory"] - idle)
        for role in ROLES:
            resident[role] = max(resident[role], *(memory(each) for each in server.role_processes(role)))
        time.sleep(0.2)
    seconds = time.monotonic() - began
    replies = content(client, batch.output_file_id)
    print(f"\n{LINES} lines in {seconds:.0f} s, {LINES / seconds:.0f} lines/s; {' -> '.join(seen)}")
    print(f"most in Redis beside what was there: {max(in_redis) / MEGABYTE:.1f} MB")
    print("most resident: " + ", ".join(f"{role} {size / MEGABYTE:.0f} MB" for role, size in resident.items()))
    assert seen == ["validating", "in_progress", "finalizing", "completed"] or seen[-1] == "completed"
    assert counts == sorted(counts)
    assert [each["custom_id"] for each in replies] == [str(number) for number in range(LINES)]
    assert max(in_redis) < 20 * MEGABYTE


def memory(process: psutil.Process) -> int:
    return int(process.memory_info().rss)
