"""Long runs of `millpond score`: kills of everything that takes part, and the memory of every process.

`MILLPOND_SOAK_ROWS` (200,000) and `MILLPOND_SOAK_KILLS` (20) are for the first, `MILLPOND_SOAK_MEMORY_ROWS` (1,000,000)
for the second. `-s` shows the figures.
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from api.bulk.workspace import ERRORS_SUFFIX
from scheduler.connection import connect
from tests.conftest import eventually
from tests.end_to_end.backfills import (
    begun,
    chunks_done,
    command_line,
    conversations,
    done,
    family_of,
    ledger_of,
    split,
)
from tests.golden.variants import golden_of, made

pytestmark = pytest.mark.soak

ROWS = int(os.environ.get("MILLPOND_SOAK_ROWS", "200000"))
KILLS = int(os.environ.get("MILLPOND_SOAK_KILLS", "20"))
MEMORY_ROWS = int(os.environ.get("MILLPOND_SOAK_MEMORY_ROWS", "1000000"))
FEW_ROWS = 10_000

CHUNKS = 100
"""Of the run with kills: several for each kill."""

LARGEST_RATIO = 1.1

ROLES = {
    "worker": "-m workers",
    "scheduler": "-m scheduler",
    "redis": "redis-server",
    "executor": "-m api.bulk.executor",
    "server": "api.cli serve",
    "templates": "-m api.sandbox.child",
    "command": "api.cli score",
    "api": "-m api",
}
"""Roles, and what their command lines have; the first that fits counts."""

VICTIMS = ("worker", "scheduler", "api", "redis", "executor", "command")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(golden_of("chat-reward"), tmp_path_factory.mktemp("model") / "reward")


def input_of(path: Path, rows: int) -> Path:
    """So many different rows, written in flat memory."""
    with path.open("wb") as file:
        for begin in range(0, rows, 10_000):
            for line in conversations(min(10_000, rows - begin), seed=begin, first=begin):
                file.write(line + b"\n")
    return path


def role_of(process: psutil.Process) -> str | None:
    """Its role; None of one that has just ended, or not yet become what it will be."""
    with suppress(psutil.Error):
        line = command_line(process)
        if "api.leash" in line:
            return None
        return next((role for role, part in ROLES.items() if part in line), None)
    return None


def test_twenty_kills_cost_no_row_and_double_none(checkpoint: Path, tmp_path: Path) -> None:
    source = input_of(tmp_path / "in.jsonl", ROWS)
    unbroken, broken = tmp_path / "unbroken.jsonl", tmp_path / "broken.jsonl"
    common = ["--model", checkpoint, "--chunk-rows", -(-ROWS // CHUNKS)]
    began = time.monotonic()
    status, said = done("score", source, "--output", unbroken, *common, seconds=7200)
    assert status == 0, said
    print(f"\nunbroken: {time.monotonic() - began:.0f} s")

    command = ["score", source, "--output", broken, *common]
    began = time.monotonic()
    process = begun(*command, log=tmp_path / "log")
    for kill in range(KILLS):
        due = (kill + 1) * CHUNKS // (KILLS + 1)
        wait_for_chunks(process, broken, due)
        victim = VICTIMS[kill % len(VICTIMS)]
        print(f"{time.monotonic() - began:7.1f} s: {chunks_done(broken)} chunks are done, kill -9 {victim}", flush=True)
        if victim == "command":
            process.kill()
            process.wait()
            process = begun(*command, log=tmp_path / "log")
        else:
            kill_one(process.pid, victim)
    assert process.wait(7200) == 0, (tmp_path / "log").read_text()
    print(f"broken: {time.monotonic() - began:.0f} s")

    rows = [(rows, bad) for _, rows, bad, *_ in ledger_of(broken)]
    assert sum(each for each, _ in rows) == ROWS
    assert sum(bad for _, bad in rows) == 0
    assert not Path(f"{broken}{ERRORS_SUFFIX}").exists()
    largest = 0.0
    with source.open("rb") as lines, unbroken.open("rb") as one, broken.open("rb") as other:
        for line, left, right in zip(lines, one, other, strict=True):
            (before, wanted), (after, found) = split(left.rstrip(b"\n")), split(right.rstrip(b"\n"))
            assert before == after == line.rstrip(b"\n")
            largest = max(largest, abs(wanted - found))
    print(f"largest difference of a score: {largest:g}")
    assert largest <= 1e-5


def wait_for_chunks(process: "subprocess.Popen[str]", output: Path, count: int) -> None:
    eventually(lambda: chunks_done(output) >= count or process.poll() is not None, 3600)
    assert process.poll() is None, "the command has ended before"


def kill_one(command: int, role: str) -> None:
    """Kills a process of a role, as soon as there is one."""
    eventually(lambda: of_role(command, role), 120)[0].kill()


def of_role(command: int, role: str) -> list[psutil.Process]:
    """The processes of a role under a command."""
    with suppress(psutil.Error):
        return [each for each in psutil.Process(command).children(recursive=True) if role_of(each) == role]
    return []


def test_a_million_rows_take_no_more_memory_than_ten_thousand(checkpoint: Path, tmp_path: Path) -> None:
    peaks = {}
    for rows in (FEW_ROWS, MEMORY_ROWS):
        source, output = input_of(tmp_path / f"{rows}.jsonl", rows), tmp_path / f"out-{rows}.jsonl"
        process = begun("score", source, "--output", output, "--model", checkpoint, log=tmp_path / "log")
        with peaks_of(process.pid) as found:
            rewrite_append_only_file(process.pid)
            assert process.wait(6 * 3600) == 0, (tmp_path / "log").read_text()
        peaks[rows] = found
    few, many = peaks[FEW_ROWS], peaks[MEMORY_ROWS]
    print(f"\n{'MiB':<12}{FEW_ROWS:>12,}{MEMORY_ROWS:>12,}   ratio")
    for role in sorted(few):
        print(f"{role:<12}{few[role] / 2**20:12.1f}{many[role] / 2**20:12.1f}{many[role] / few[role]:8.3f}")
    assert few.keys() == many.keys()
    assert {role for role in few if many[role] > LARGEST_RATIO * few[role]} == set()


def rewrite_append_only_file(command: int) -> None:
    """While rows pass: Redis does so by itself every 64 MB that it has written, so in the long run only."""
    eventually(lambda: [each for each in family_of(command) if role_of(each) == "executor"], 120)
    (scheduler,) = (each for each in family_of(command) if role_of(each) == "scheduler")
    redis = connect(scheduler.environ()["MILLPOND_REDIS_URL"])
    eventually(lambda: redis.info("stats")["total_commands_processed"] > 2_000, 120)
    redis.bgrewriteaof()


def own_memory(process: psutil.Process) -> int:
    """Resident memory that the process itself has filled, in bytes.

    Without the pages of files that it has mapped, of which the worker's libraries have 200 MiB: how many of these are
    resident is the kernel's affair, and differs by 45 MiB between two runs that are the same.
    """
    status = Path(f"/proc/{process.pid}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))) * 1024


@contextmanager
def peaks_of(command: int) -> Iterator[dict[str, int]]:
    """The most memory that any process of each role had at once, in bytes."""
    peaks: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            with suppress(psutil.Error):
                for each in family_of(command):
                    role = role_of(each)
                    if role:
                        with suppress(psutil.Error, OSError):
                            peaks[role] = max(peaks.get(role, 0), own_memory(each))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
