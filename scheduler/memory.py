"""A process that stays as small as it began, and looks at what it has loaded no more than once.

glibc gives each thread a heap of its own and keeps what is freed for the next allocations. Of a worker that did small
batches for a quarter of an hour, 45 MiB lay free in its heaps; and once, when another of Paddle's threads did a forward
than usual, 64 MiB more were filled in that thread's heap (`make soak`, test_backfill_soak.py).
"""

import ctypes
import gc
import threading
import time

GIVING_BACK_SECONDS = 5.0

_M_ARENA_MAX = -8  # of mallopt(3)


def keep_small() -> None:
    """Asks glibc for one heap, and gives free pages back from time to time, in a thread.

    To be called before other threads are started. Does nothing where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    trim, option = getattr(library, "malloc_trim", None), getattr(library, "mallopt", None)
    if trim is None or option is None:
        return
    option(_M_ARENA_MAX, 1)

    def run() -> None:
        while True:
            time.sleep(GIVING_BACK_SECONDS)
            trim(0)

    threading.Thread(target=run, name="memory", daemon=True).start()


def keep_loaded() -> None:
    """Takes what a process has loaded by now away from Python's garbage collector, which looks at none of it again.

    To be called when it is ready to serve. Else a full collection, of which a busy api process has one a second, looks
    at every module and class there is: 80 ms in which nobody is answered (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
