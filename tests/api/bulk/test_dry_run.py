"""A dry run tells what would be asked, what would be refused, and about how long all of it would take."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from api.bulk.dry_run import DryRun, Sampled

LIMIT = 50


class Server:
    """Answers as `POST /v1/rows` does: a token a character, and so many rows a second by its own clock."""

    def __init__(self, rows_a_second: float = 100.0) -> None:
        self.pooled: list[list[str]] = []
        self.time = 0.0
        self._seconds_a_row = 1 / rows_a_second

    def now(self) -> float:
        return self.time

    def entry(self, row: bytes) -> dict[str, Any]:
        text = json.loads(row)["text"]
        tokens = len(text)
        if tokens > LIMIT:
            message = f"{tokens} tokens, over this model's {LIMIT}"
            return {"tokens": tokens, "error": {"message": message, "param": "text"}}
        return {"tokens": tokens, "prompt": f"<{text}>", "truncated": text.startswith("cut")}

    async def entries(self, rows: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        self.pooled.append([json.loads(row)["text"] for row in rows])
        self.time += len(rows) * self._seconds_a_row
        return [self.entry(row) for row in rows]


class Renderer:
    """The same, asked for prompts only."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.calls: list[int] = []

    async def entries(self, rows: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        self.calls.append(len(rows))
        return [self._server.entry(row) for row in rows]


def row(number: int, *texts: str) -> Sampled:
    return Sampled(f"data.jsonl, line {number}", [json.dumps({"text": text}).encode() for text in texts])


def told(server: Server, first: Sequence[Sampled], sample: Sequence[Sampled], **fields: Any) -> list[str]:
    settings: dict[str, Any] = {"total_rows": 36_000, "rows_per_call": 64, "calls_at_once": 1, **fields}
    run = DryRun(Renderer(server), server, "text", now=server.now, **settings)

    async def lines() -> list[str]:
        return [line async for line in run.lines(first, sample)]

    return asyncio.run(lines())


def test_the_first_prompts_are_shown_as_the_model_reads_them() -> None:
    first = [
        row(1, "a\nb\tc"),
        row(2, "won", "cut lost"),
        row(3, "x" * 51),
        Sampled("data.jsonl, line 4", (), "no JSON"),
    ]
    assert told(Server(), first, [])[:18] == [
        "36,000 rows, read as: text",
        "",
        "data.jsonl, line 1: 5 tokens",
        "  | <a",
        r"  | b\tc>",
        "",
        "data.jsonl, line 2, 1 of 2: 3 tokens",
        "  | <won>",
        "",
        "data.jsonl, line 2, 2 of 2: 8 tokens, cut to fit",
        "  | <cut lost>",
        "",
        "data.jsonl, line 3: text: 51 tokens, over this model's 50",
        "",
        "data.jsonl, line 4: no JSON",
        "",
        "a sample of 0 rows from all over the input:",
        "  refused: none",
    ]


def test_long_prompts_lose_their_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.bulk.dry_run.PROMPT_CHARACTERS", 40)
    assert told(Server(), [row(1, "a" * 25 + "b" * 25)], [])[3] == "  | <aaaaaaaaaaaaa … 25 more … bbbbbbbbbbbb>"


def test_tokens_cuts_and_refusals_of_the_sample_are_counted() -> None:
    sample = [
        *(row(number, "x" * number) for number in range(1, 41)),
        row(41, "cut", "y"),
        row(42, "y", "z" * 51),
        row(43, "z" * 60),
        Sampled("data.jsonl, line 44", (), "column prompt is missing"),
    ]
    lines = told(Server(), [], sample)
    assert lines[2:9] == [
        "a sample of 44 rows from all over the input:",
        "  tokens of 42 requests: at least 1, median 19, at most 40",
        "  cut to fit: 1",
        "  refused, and so in the errors file: 3",
        "    2, first data.jsonl, line 42: text: 51 tokens, over this model's 50",
        "    1, first data.jsonl, line 44: column prompt is missing",
        "",
    ]


def test_the_estimate_is_that_of_real_calls_and_says_on_how_many_rows() -> None:
    server = Server(rows_a_second=100)
    lines = told(server, [], [row(number, "x") for number in range(2000)], seconds=5.0)
    assert lines[-3] == "about 6 min for 36,000 rows, at 100 rows/s"
    assert lines[-2].startswith("  a rough estimate: measured on 560 rows in 5.6 s")
    assert [len(each) for each in server.pooled] == [8, 16, 32, *[64] * 8]


def test_what_is_refused_is_not_computed_and_takes_no_time() -> None:
    server = Server(rows_a_second=100)
    lines = told(server, [], [row(number, "x" * (1 if number % 2 else 60)) for number in range(1000)])
    assert lines[-3] == "about 3 min for 36,000 rows, at 100 rows/s"
    assert {text for call in server.pooled for text in call} == {"x"}


def test_a_slow_model_is_asked_for_little() -> None:
    server = Server(rows_a_second=1)
    assert (
        told(server, [], [row(number, "x") for number in range(2000)])[-3]
        == "about 10 h for 36,000 rows, at 1.0 rows/s"
    )
    assert [len(each) for each in server.pooled] == [8, 16]


def test_calls_are_made_side_by_side_as_the_run_would_make_them() -> None:
    class Together(Server):
        """Answers when three calls are there."""

        async def entries(self, rows: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
            if self.pooled:
                await asyncio.wait_for(self.together.wait(), 10)
            return await super().entries(rows)

        together: asyncio.Barrier

    async def run() -> None:
        server = Together(rows_a_second=1)
        server.together = asyncio.Barrier(3)
        sample = [row(number, "x") for number in range(2000)]
        dry = DryRun(Renderer(server), server, "text", 2000, 64, 3, seconds=4.0, now=server.now)
        assert [line async for line in dry.lines([], sample)]
        assert sorted(len(each) for each in server.pooled) == [8, 16, 32, 64]

    asyncio.run(run())


def test_both_requests_of_a_pair_go_in_one_call() -> None:
    server = Server()
    told(server, [], [row(number, "a", "b") for number in range(30)], rows_per_call=5)
    assert {len(each) for each in server.pooled} == {4}


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_too_few_rows_have_no_estimate(rows: int) -> None:
    lines = told(Server(), [], [row(number, "x") for number in range(rows)])
    assert lines[-1] == ("too few rows to estimate the time" if rows else "  refused: none")
