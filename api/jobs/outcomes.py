"""What becomes of a job by what its route has answered."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.jobs import JobStatus

SHORT_PAUSE_MS = 1_000
"""For an owner whose job could not be run for a reason that passes."""

LONGEST_PAUSE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Ended:
    """It has ended so."""

    status: JobStatus


@dataclass(frozen=True, slots=True)
class Returned:
    """It waits again, and no job of its owner is begun for so long. That was no attempt: nothing was tried."""

    pause_ms: int


def outcome_of(status: int, headers: Mapping[str, str]) -> Ended | Returned:
    """What follows from a reply.

    The limits of a key (429) and a Redis or key file that is away (503) pass: the job waits for them, until it expires.
    """
    if status == 429:
        return Returned(_pause_ms(headers))
    if status == 503:
        return Returned(SHORT_PAUSE_MS)
    if status == 504:
        return Ended(JobStatus.EXPIRED)
    return Ended(JobStatus.SUCCEEDED if status < 400 else JobStatus.FAILED)


def _pause_ms(headers: Mapping[str, str]) -> int:
    """What the reply says about when to come back, in whichever of its two headers is finer."""
    for name, unit in (("retry-after-ms", 1), ("retry-after", 1000)):
        given = headers.get(name, "")
        if given.isascii() and given.isdigit():
            return max(1, math.ceil(min(LONGEST_PAUSE_MS, float(given) * unit)))
    return SHORT_PAUSE_MS
