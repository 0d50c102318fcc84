"""How a role tells the launcher that started it that it is ready, or why it will never be."""

import os
import sys

from scheduler.memory import keep_loaded

READY, REFUSED = "ready", "refused"
"""The first word of the one line that a role writes to the pipe that the launcher left open."""


def announce_ready(detail: str) -> None:
    """Tells the launcher, if there is one, that this role is ready: it has loaded what it needs.

    `detail` is shown to the user.
    """
    keep_loaded()
    _announce(READY, detail)


def announce_refusal(reason: str) -> None:
    """Tells the launcher, or without one the user, why this role cannot start, and that trying again will not help."""
    if not _announce(REFUSED, reason):
        print(reason, file=sys.stderr)


def _announce(word: str, text: str) -> bool:
    """Whether there was a launcher to tell; it is told once."""
    descriptor = os.environ.pop("MILLPOND_READY_FD", None)
    if descriptor is None:
        return False
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
        pipe.write(f"{word} {text.replace(chr(10), ' ')}\n")
    return True
