"""Whether a worker's Celery consumer still hears: one that is connected and gets no message must not go unnoticed."""

import threading

DEAF_LOOKS = 10
"""Looks in a row, one a second, with something sent to this worker and nothing heard."""


class Hearing:
    """What was heard, and how often in a row nothing was.

    Looks are counted and not seconds: a process that was stopped, or whose machine slept, heard nothing meanwhile, and
    is not deaf for that.
    """

    def __init__(self) -> None:
        self._heard = threading.Event()
        self._silent_looks = 0

    def heard(self) -> None:
        """Notes a message; from any thread."""
        self._heard.set()

    def reset(self) -> None:
        """Begins to count anew, as where the broker was away."""
        self._silent_looks = 0

    def is_deaf(self, *, sent: bool) -> bool:
        """Whether it has been so for too long; asked once a second, from one thread.

        Args:
            sent: whether something is on its way to this worker.
        """
        heard = self._heard.is_set()
        self._heard.clear()
        self._silent_looks = self._silent_looks + 1 if sent and not heard else 0
        return self._silent_looks > DEAF_LOOKS
