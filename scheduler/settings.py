"""The settings of the queue: the clocks that its promises rest on, and what the environment says.

The clocks are constants, because every process of a deployment must agree on them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

LEASE_MS = 5_000
"""A worker that does not renew its lease for so long has lost it. Several renewals may go astray before that."""

RENEWAL_SECONDS = 1.0
"""How often a worker renews its leases and sends its heartbeat."""

CLAIM_MS = 6_000
"""A micro-batch whose worker does not begin it for so long goes back: its message was lost, or the worker died."""

WORKER_TTL_MS = 5_000
"""A worker that has not been heard of for so long has no slots."""

BATCH_SECONDS_LIMIT = 300.0
"""A forward that takes longer hangs: its worker ends itself, and its items come back by their lease."""

LEADER_TTL_MS = 2_500
"""Another scheduler takes over a model this long after its leader was last heard of."""

STANDBY_SECONDS = 0.2
"""How often a scheduler that does not lead looks whether anybody does. With `LEADER_TTL_MS` it is the longest pause."""

TICK_SECONDS = 0.8
"""How often a leader renews its leadership, looks for leases that ran out and counts the workers' slots."""

REQUEST_TTL_MS = 30_000
"""A request whose api process has not asked after it for so long is abandoned: nobody waits for its items."""

RESULT_TTL_MS = 300_000
"""How long the results of a synchronous call lie in Redis when nobody fetches them."""

CALL_LEASE_MS = 15_000
"""A call that counts against a key's limit and is not heard of for so long counts no more: its api process died."""

CALL_RENEWAL_SECONDS = 4.0
"""How often an api process renews the leases of such calls."""

ATTEMPTS_ALLOWED = 3
"""An item that three workers did not survive is answered with an error and dead-lettered."""

BATCH_LEASE_MS = 5_000
"""A part of a batch's work whose process has not been heard of for so long is another's."""

BATCH_KEPT_MS = 30 * 86_400_000
"""For how long a batch that has ended can be asked for."""

BATCH_KEY_KEPT_MS = 86_400_000
"""For how long the idempotency key of a batch stands for it."""

PARTS_KEPT_SECONDS = 60
"""After which the sweep removes the parts of a batch that has ended, where who ended it died before it could."""

DEAD_LETTERS_KEPT = 10_000

WEBHOOK_LEASE_MS = 60_000
"""A webhook whose delivery has not been heard of for so long is delivered anew: longer than an attempt may take, and
Redis may be away after it, before what became of it is written down."""

WEBHOOK_PROVEN_MS = 3_600_000
"""A receiver that answered so lately is taken for one that does; another is asked by one attempt first."""

WEBHOOK_KEPT_MS = 3_600_000
"""A webhook that has ended is remembered for so long, so that it is not delivered anew when it is handed in again."""

SLOTS = 2
"""Micro-batches a worker may hold: one that runs, one that waits, so that the engine never does.

One more where one of them is of other lanes and interactive callers wait: the worker runs it next."""

INTERACTIVE_TARGET_MS = 50
"""How long a batch of other lanes may run, and keep an interactive caller waiting, while such callers come."""

URGENT_REMEMBERED_SECONDS = 10.0
"""For so long after the last interactive item the batches of other lanes stay brief."""


@dataclass(frozen=True)
class SchedulerSettings:
    """What one scheduler process is told by its environment (`MILLPOND_...`)."""

    redis_url: str
    broker_url: str
    log_format: str
    interactive_target_ms: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The settings, with the defaults of a Redis on this machine."""
        redis_url = environment.get("MILLPOND_REDIS_URL") or "redis://127.0.0.1:6379/0"
        return cls(
            redis_url=redis_url,
            broker_url=environment.get("MILLPOND_BROKER_URL") or redis_url,
            log_format=environment.get("MILLPOND_LOG_FORMAT") or "text",
            interactive_target_ms=int(environment.get("MILLPOND_INTERACTIVE_TARGET_MS") or INTERACTIVE_TARGET_MS),
        )
