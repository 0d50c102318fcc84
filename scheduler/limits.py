"""What a tenant may do at once and in a minute, counted in Redis, so that all api processes count together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.keys import TenantKeys
from scheduler.lua import Step
from scheduler.settings import CALL_LEASE_MS


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one tenant; None is no limit.

    Attributes:
        tokens_per_minute: also the largest burst, as unused tokens of past minutes are not saved up.
        concurrency: calls that may run at the same time.
    """

    tenant: str
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a call that asked to begin, and where its tenant stands with it.

    Attributes:
        over_tokens: it was refused for its tokens.
        over_calls: it was refused for the calls that run.
        running: calls that run, this one included when it was let in.
        tokens_left: tokens that could be sent now.
        tokens_reset_ms: until all tokens of a minute are free again, when no more are sent.
        tokens_wait_ms: until this call's tokens are free, when it was refused for them.
        call_ms: how long the tenant's calls took lately, in the mean.
    """

    over_tokens: bool
    over_calls: bool
    running: int
    tokens_left: int
    tokens_reset_ms: int
    tokens_wait_ms: int
    call_ms: int

    @classmethod
    def of(cls, reply: Sequence[int]) -> "Verdict":
        """The reply of the step `admit`."""
        return cls(bool(reply[0]), bool(reply[1]), *reply[2:])

    @property
    def admitted(self) -> bool:
        """Whether the call may begin."""
        return not (self.over_tokens or self.over_calls)

    def wait_ms(self, limits: Limits) -> int:
        """How long a refused call should wait: until its tokens are free, and until a call should have ended.

        Of `concurrency` calls that run side by side one ends, in the mean, every `call_ms / concurrency`.
        """
        tokens = self.tokens_wait_ms if self.over_tokens else 0
        calls = math.ceil(self.call_ms / limits.concurrency) if self.over_calls and limits.concurrency else 0
        return max(tokens, calls, 1)


def admit(limits: Limits, call_id: str, tokens: int, lease_ms: int = CALL_LEASE_MS) -> Step:
    """Lets a call begin and counts it, or refuses it and changes nothing; read the reply with `Verdict.of`.

    Asked again with the same id, for want of an answer, a call that runs is not counted twice.
    """
    keys = TenantKeys(limits.tenant)
    allowed = (limits.tokens_per_minute or 0, limits.concurrency or 0)
    return Step("admit", [keys.usage, keys.calls], [call_id, tokens, *allowed, lease_ms])


def stay(limits: Limits, call_id: str) -> Step:
    """Renews the lease of a call that runs: without it, it is taken for one whose process died."""
    return Step("stay", [TenantKeys(limits.tenant).calls], [call_id, CALL_LEASE_MS])


def leave(limits: Limits, call_id: str, milliseconds: int) -> Step:
    """Ends a call that ran for so long."""
    keys = TenantKeys(limits.tenant)
    return Step("leave", [keys.usage, keys.calls], [call_id, milliseconds])
