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
    "where",
    "does",
    "the",
    "water",
    "go",
    "when",
    "it",
    "rains",
    "down",
    "over",
    "hill",
    "and",
    "mill",
    "and",
    "pond",
    "to",
    "sea",
]


def conversations(count: int, seed: int = 5) -> list[bytes]:
    """Lines of JSON with a conversation each, written with the blanks and the order of keys that people leave."""
    chosen = random.Random(seed)
    lines = []
    for number in range(count):
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


def begun(*arguments: object, **how: Any) -> "subprocess.Popen[str]":
    """A bulk command that runs."""
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}, **how
    )


def ended(process: "subprocess.Popen[str]", seconds: float = 120.0) -> tuple[int, str]:
    """Its exit status and all that it said."""
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def done(*arguments: object, **how: Any) -> tuple[int, str]:
    """The exit status of a bulk command, and all that it said."""
    return ended(begun(*arguments, **how))


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


def family_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """A command and every process under it."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def split(line: bytes) -> tuple[bytes, float]:
    """An output line as the input line that it was, and the score that it got."""
    before, comma, column = line.rpartition(b',"score":')
    assert comma, line
    return before + b"}", float(column.removesuffix(b"}"))


def scores_of(client: httpx.Client, lines: Sequence[bytes]) -> list[float]:
    """What plain calls of the reward route say."""

    def score(line: bytes) -> float:
        reply = client.post("/v1/chat/reward", json={"messages": json.loads(line)["messages"]})
        return float(reply.json()["data"][0]["score"][0])

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(score, lines))
