"""How a role tells the launcher that started it that it is ready."""

import os


def announce_ready(detail: str) -> None:
    """Writes one line to the pipe that the launcher left open, if there is one. `detail` is shown to the user."""
    descriptor = os.environ.pop("MILLPOND_READY_FD", None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
            pipe.write(detail + "\n")
