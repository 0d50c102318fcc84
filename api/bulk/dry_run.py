"""What a bulk command would do, told before it does it: prompts, token counts, refusals, an estimate of the time."""

import asyncio
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api.bulk.progress import duration, rate_shown
from api.bulk.shortening import shortened

SAMPLE_ROWS = 2000
"""So many rows, spread over the input, make a good sample: to count them takes a moment, to compute them seconds."""

CALIBRATION_SECONDS = 5.0
PROMPT_CHARACTERS = 2000

_FIRST_CALL = 8
_PROBLEMS_SHOWN = 5
_REASON_CHARACTERS = 300


class Rows(Protocol):
    """Calls of `POST /v1/rows` that differ in their rows only; `RowsClient` makes them."""

    async def entries(self, rows: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        """The reply's entries for rows that are JSON already, in their order; several calls may run at once."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """A row of the input.

    Attributes:
        place: where it is, as a person finds it: "data.jsonl, line 12".
        requests: the rows of `POST /v1/rows` that it becomes, as JSON: one, or two for a pair; none with a problem.
        problem: why it cannot be read; None where it can.
    """

    place: str
    requests: Sequence[bytes] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class DryRun:
    """A dry run, told line by line.

    Attributes:
        rendering: calls with `render_only`.
        pooling: the calls of the run itself.
        shape: how the rows were read, in words: "chosen and rejected, each a list of messages".
        total_rows: of the whole input.
        rows_per_call, calls_at_once: as the run itself would make its calls; requests count, not rows.
        seconds: how long the calibration takes, but for its last calls.
        now: a clock in seconds.
    """

    rendering: Rows
    pooling: Rows
    shape: str
    total_rows: int
    rows_per_call: int
    calls_at_once: int
    seconds: float = CALIBRATION_SECONDS
    now: Callable[[], float] = time.monotonic

    async def lines(self, first: Sequence[Sampled], sample: Sequence[Sampled]) -> AsyncIterator[str]:
        """Each line as soon as it is known; BulkError where the server refuses the calls as such.

        Args:
            first: rows whose prompts are shown.
            sample: rows spread over the input, whose tokens are counted and on which the time is measured.
        """
        yield f"{self.total_rows:,} rows, read as: {self.shape}"
        for line in _prompts(await self._rendered(first)):
            yield line
        rendered = await self._rendered([row for row in sample if row.problem is None])
        problems = [(row.place, row.problem) for row in sample if row.problem is not None]
        problems += [(row.place, problem) for row, entries in rendered for problem in _refusals(entries)[:1]]
        answered = [(row, entries) for row, entries in rendered if not _refusals(entries)]
        yield ""
        yield f"a sample of {len(sample):,} rows from all over the input:"
        for line in (*_tokens(answered), *_problems(problems)):
            yield line
        if answered:
            measured, seconds = await self._calibrated([row for row, _ in answered])
            yield ""
            for line in self._estimate(measured, seconds, len(answered) / len(sample)):
                yield line

    async def _rendered(self, rows: Sequence[Sampled]) -> list["Rendered"]:
        entries: list[Mapping[str, Any]] = []
        for batch in _calls(rows, lambda: self.rows_per_call):
            requests = _requests(batch)
            if requests:
                entries += await self.rendering.entries(requests)
        following = iter(entries)
        return [(row, [next(following) for _ in row.requests]) for row in rows]

    def _estimate(self, measured: int, seconds: float, share: float) -> Iterator[str]:
        """What the pace of the calibration comes to for the whole.

        Args:
            share: of all rows that is computed: what cannot be read or is refused costs nothing.
        """
        if not measured:
            yield "too few rows to estimate the time"
            return
        rate = measured / max(seconds, 1e-6)
        time_of_all = duration(self.total_rows * share / rate)
        yield f"about {time_of_all} for {self.total_rows:,} rows, at {rate_shown(rate)} rows/s"
        yield f"  a rough estimate: measured on {measured:,} rows in {seconds:.1f} s, beside what else the server did;"
        yield "  identical rows, which are computed once, make it shorter"

    async def _calibrated(self, sample: Sequence[Sampled]) -> tuple[int, float]:
        """Rows computed and the seconds that they took, after a first small call that is not counted.

        Calls begin small and double, so that a slow model does not take minutes for one.
        """
        size = _FIRST_CALL
        calls = _calls(sample, lambda: min(size, self.rows_per_call))
        await self.pooling.entries(_requests(next(calls)))
        began = self.now()

        async def work() -> int:
            nonlocal size
            done = 0
            while self.now() - began < self.seconds:
                size *= 2
                batch = next(calls, None)
                if batch is None:
                    break
                await self.pooling.entries(_requests(batch))
                done += len(batch)
            return done

        done = sum(await asyncio.gather(*(work() for _ in range(self.calls_at_once))))
        return done, self.now() - began


Rendered = tuple[Sampled, Sequence[Mapping[str, Any]]]
"""A row, and the entries of its requests: rendered and counted, not pooled."""


def _prompts(rendered: Sequence[Rendered]) -> Iterator[str]:
    """The rendered prompts of the first rows, or why there are none."""
    for row, entries in rendered:
        for number, entry in enumerate(entries, 1):
            which = f", {number} of {len(entries)}" if len(entries) > 1 else ""
            yield ""
            if "error" in entry:
                yield f"{row.place}{which}: {_reason(entry)}"
                continue
            cut = ", cut to fit" if entry.get("truncated") else ""
            yield f"{row.place}{which}: {entry['tokens']:,} tokens{cut}"
            prompt = shortened(entry.get("prompt") or "", PROMPT_CHARACTERS, keep="\n")
            yield from (f"  | {line}" for line in prompt.split("\n"))
        if row.problem is not None:
            yield ""
            yield f"{row.place}: {row.problem}"


def _refusals(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why entries of a reply have no answer."""
    return [_reason(entry) for entry in entries if "error" in entry]


def _reason(entry: Mapping[str, Any]) -> str:
    error = entry["error"]
    place = f"{error['param']}: " if error.get("param") else ""
    return shortened(f"{place}{error['message']}", _REASON_CHARACTERS)


def _requests(batch: Iterable[Sampled]) -> list[bytes]:
    return [request for row in batch for request in row.requests]


def _calls(rows: Iterable[Sampled], size: Callable[[], int]) -> Iterator[list[Sampled]]:
    """Rows of at most so many requests at a time, but one row at least; the size is asked for as each call is begun."""
    batch: list[Sampled] = []
    requests, limit = 0, size()
    for row in rows:
        if batch and requests + len(row.requests) > limit:
            yield batch
            batch, requests, limit = [], 0, size()
        batch.append(row)
        requests += len(row.requests)
    if batch:
        yield batch


def _tokens(rendered: Sequence[Rendered]) -> Iterator[str]:
    entries = [entry for _, found in rendered for entry in found]
    if not entries:
        return
    counts = sorted(entry["tokens"] for entry in entries)
    median = statistics.median_low(counts)
    yield f"  tokens of {len(entries):,} requests: at least {counts[0]:,}, median {median:,}, at most {counts[-1]:,}"
    cut = sum(any(entry.get("truncated") for entry in found) for _, found in rendered)
    if cut:
        yield f"  cut to fit: {cut:,}"


def _problems(problems: Sequence[tuple[str, str | None]]) -> Iterator[str]:
    """How many rows would go to the errors file, and why, the most frequent reason first.

    Reasons that differ in their numbers only are one, told as it came first.
    """
    if not problems:
        yield "  refused: none"
        return
    yield f"  refused, and so in the errors file: {len(problems):,}"
    told: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for place, reason in problems:
        kind = re.sub(r"\d+", "0", str(reason))
        told.setdefault(kind, f"first {place}: {reason}")
        counts[kind] += 1
    for kind, count in counts.most_common(_PROBLEMS_SHOWN):
        yield f"    {count:,}, {told[kind]}"
    if len(counts) > _PROBLEMS_SHOWN:
        yield f"    and {len(counts) - _PROBLEMS_SHOWN:,} reasons more"
