"""A file that one process on a machine holds, and that names it; the lock ends with the process, however it ends."""

import fcntl
import os
from typing import IO


class HeldError(Exception):
    """Another process holds the file.

    Attributes:
        process: its id, or "unknown".
    """

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


def hold(file: IO[str]) -> None:
    """Takes the lock on a file that is open for reading and writing, and writes this process's id into it.

    Raises:
        HeldError: another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        raise HeldError(file.read().strip() or "unknown") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
