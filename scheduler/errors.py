"""Every error of the queue."""


class SchedulerError(Exception):
    """The base of the queue's errors."""


class QueueUnavailableError(SchedulerError):
    """Redis did not take or give what was asked of it, within the time allowed."""


class UnsupportedServerError(SchedulerError):
    """The Redis server cannot keep the queue's promises: too old, or it evicts keys."""


class LeadershipLostError(SchedulerError):
    """Another scheduler leads this model now."""


class NotDurableError(SchedulerError):
    """The Redis server keeps nothing on disk, so it cannot be trusted with what nobody waits for."""
