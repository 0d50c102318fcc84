"""Every error of the queue."""

from typing import Literal


class SchedulerError(Exception):
    """The base of the queue's errors."""


class QueueUnavailableError(SchedulerError):
    """Redis did not take or give what was asked of it, within the time allowed."""


class QueueFullError(SchedulerError):
    """Too much is queued already for a request to be accepted; nothing of it was.

    Attributes:
        bound: what is full.
        queued: tokens in the lane.
        seconds: after which there will be room; None where the workers' pace is not known.
    """

    def __init__(self, bound: Literal["lane", "tenant", "deadline"], queued: int, seconds: float | None) -> None:
        super().__init__(f"too much is queued ({bound}): {queued} tokens, room in {seconds} s")
        self.bound = bound
        self.queued = queued
        self.seconds = seconds


class BlobsFullError(SchedulerError):
    """There is no room for a file, for what is kept is needed by requests that are not over.

    Attributes:
        budget: the most bytes of all files.
        in_use: the bytes of those that are kept.
        size: of the files that there is no room for.
    """

    def __init__(self, budget: int, in_use: int, size: int) -> None:
        super().__init__(
            f"there is no room for files of {size} bytes: those that are kept, {in_use} of {budget} bytes, are needed "
            "by requests that are not over; raise --media-cache-mb, or send fewer at once"
        )
        self.budget = budget
        self.in_use = in_use
        self.size = size


class UnsupportedServerError(SchedulerError):
    """The Redis server cannot keep the queue's promises: too old, or it evicts keys."""


class LeadershipLostError(SchedulerError):
    """Another scheduler leads this model now."""


class NotDurableError(SchedulerError):
    """The Redis server keeps nothing on disk, so it cannot be trusted with what nobody waits for."""
