"""Memory that was freed goes back to the machine.

glibc keeps what a process frees for its next allocations, and where threads allocate and others free, the holes grow:
of a worker that did small batches for sixteen minutes 48 MiB more than at its start, none of which it used.
"""

import ctypes
import threading
import time

GIVING_BACK_SECONDS = 5.0


def keep_giving_back() -> None:
    """Gives free pages back from time to time, in a thread; does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def run() -> None:
        while True:
            time.sleep(GIVING_BACK_SECONDS)
            trim(0)

    threading.Thread(target=run, name="memory", daemon=True).start()
