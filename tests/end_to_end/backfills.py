"""Bulk commands as a user gives them, their inputs, and what their ledgers say."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil

from api.bulk.workspace import SUFFIX

WORDS = "where does the water go when it rains down over hill and mill and pond to sea"


def conversations(count: int, seed: int = 5, first: int = 0) -> list[bytes]:
    """Lines of JSON with a conversation each, written with the blanks and the order of keys that people leave."""
    chosen = random.Random(seed)
    lines = []
    for number in range(first, first + count):
        asked, answered = (" ".join(chosen.choices(WORDS.split(), k=chosen.randint(1, most))) for most in (6, 18))
        said = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        apart = chosen.choice([(", ", ": "), (",", ":"), (" ,  ", " : ")])
        lines.append(json.dumps({"id": number, "messages": said, "é": "ü"}, separators=apart).encode())
    return lines


def written(path: Path, lines: Sequence[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "api.cli", *map(str, arguments)]


def begun(*arguments: object, log: Path | None = None, **how: Any) -> "subprocess.Popen[str]":
    """A bulk command that runs; what it says is added to a log, where one is given."""
    with open(log or os.devnull, "ab") as file:  # noqa: PTH123 - one of the two is no path
        output = file if log else subprocess.PIPE
        return subprocess.Popen(command(*arguments), stdout=output, stderr=subprocess.STDOUT, text=True, **how)


def ended(process: "subprocess.Popen[str]", seconds: float = 120.0) -> tuple[int, str]:
    """Its exit status and all that it said."""
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def done(*arguments: object, seconds: float = 120.0, **how: Any) -> tuple[int, str]:
    """The exit status of a bulk command, and all that it said."""
    return ended(begun(*arguments, **how), seconds)


def ledger_of(output: Path) -> list[tuple[Any, ...]]:
    """Of each chunk, in order: part, rows, bad, duplicates, and who holds it. Empty before there is a ledger."""
    path = Path(f"{output}{SUFFIX}") / "ledger.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=20)) as database:
        try:
            return database.execute(
                "SELECT part, rows, bad, duplicates, token FROM chunks WHERE number >= 0 ORDER BY number"
            ).fetchall()
        except sqlite3.OperationalError:
            return []


def chunks_done(output: Path) -> int:
    return sum(part is not None for part, *_ in ledger_of(output))


def family_of(command: int) -> list[psutil.Process]:
    """A command, by its process id, and every process under it."""
    parent = psutil.Process(command)
    return [parent, *parent.children(recursive=True)]


def command_line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def split(line: bytes) -> tuple[bytes, float]:
    """An output line as the input line that it was, and the score that it got."""
    before, comma, column = line.rpartition(b',"score":')
    assert comma, line
    return before + b"}", float(column.removesuffix(b"}"))


def plain_scores(client: httpx.Client, lines: Sequence[bytes]) -> list[float]:
    """What single calls of the reward route say."""

    def score(line: bytes) -> float:
        reply = client.post("/v1/chat/reward", json={"messages": json.loads(line)["messages"]})
        return float(reply.json()["data"][0]["score"][0])

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(score, lines))


def scores(client: httpx.Client, lines: Sequence[bytes]) -> list[float]:
    """What calls of many rows say."""
    found: list[float] = []
    for begin in range(0, len(lines), 500):
        rows = [{"messages": json.loads(line)["messages"]} for line in lines[begin : begin + 500]]
        reply = client.post("/v1/rows", json={"model": None, "task": "score", "rows": rows})
        found += [entry["score"][0] for entry in reply.json()["data"]]
    return found
