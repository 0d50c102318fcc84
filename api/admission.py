"""What the queue has no room for: refused with the bound that it met, and the time after which there will be room."""

import math

from prometheus_client import Counter

from api.callers import Caller
from api.errors import Reason, RefusedError
from api.limiting import duration
from api.options import Options
from scheduler.errors import QueueFullError
from scheduler.keys import Lane
from scheduler.queue import Bounds

REFUSED = Counter(
    "millpond_refused_total",
    "Calls that were not let in, by the bound that they met: lane_full, key_full, deadline, tokens_per_minute, "
    "concurrency, or too_large, which could never be let in.",
    ["model", "lane", "reason"],
)

UNKNOWN_PACE_SECONDS = 5.0
"""When to come again where no worker has been heard of, and nobody can say how fast the queue moves."""


def bounds_of(options: Options) -> Bounds:
    """The most tokens that may be queued, as the options have it."""
    return Bounds(options.max_queued_tokens, min(options.max_queued_tokens, options.max_queued_tokens_per_key))


def check_within_bounds(tokens: int, options: Options, field: str) -> None:
    """Refuses a call that could never be queued.

    Raises:
        RefusedError: 413, it has more tokens than may be queued at all.
    """
    bounds = bounds_of(options)
    if tokens > bounds.tenant:
        flag = "--max-queued-tokens-per-key" if bounds.tenant < bounds.lane else "--max-queued-tokens"
        raise RefusedError(
            "too_large",
            413,
            f"{field}: this call has {tokens} tokens, over the {bounds.tenant} that may be queued at once ({flag}): "
            "send fewer inputs a call.",
            param=field,
            code="request_too_large",
        )


def full(error: QueueFullError, lane: Lane, caller: Caller, options: Options) -> RefusedError:
    """The 429 for a call that the queue has no room for now."""
    bounds = bounds_of(options)
    wait_ms = math.ceil(1000 * (UNKNOWN_PACE_SECONDS if error.seconds is None else error.seconds))
    reason: Reason
    match error.bound:
        case "lane":
            reason = "lane_full"
            why = f"{error.queued} tokens are queued in the {lane} lane, near the {bounds.lane} of --max-queued-tokens"
        case "tenant":
            reason = "key_full"
            whose = f"the key {caller.name!r}" if caller.name else "callers without a key"
            why = (
                f"{whose} may have {bounds.tenant} tokens queued in the {lane} lane (--max-queued-tokens-per-key), and "
                "has nearly as many"
            )
        case "deadline":
            reason = "deadline"
            why = (
                f"{error.queued} tokens are queued in the {lane} lane, more than can be done before this call's "
                "deadline (Millpond-Deadline-Ms, --request-timeout)"
            )
    return RefusedError(
        reason,
        429,
        f"The server is busy: {why}. Try again in {duration(wait_ms)}: there will be room then.",
        code="queue_full",
        headers={"Retry-After": str(max(1, math.ceil(wait_ms / 1000))), "retry-after-ms": str(max(1, wait_ms))},
    )
