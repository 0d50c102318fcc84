"""`python -m pooling.rank`: one rank of a tensor-parallel group beside the first; see `pooling.ranks`."""

import io
import os
import queue
import signal
import sys
import threading
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import IO

from pooling.config import resolve_spec
from pooling.device import DEVICE_VARIABLE, THREADS_VARIABLE, prepare_process, select_device
from pooling.errors import PoolingError

EXIT_CONFIGURATION = 2

# For the first rank to say what is wrong; if it found nothing wrong, the group must end all the same.
LAST_WORDS_SECONDS = 30.0


def main() -> int:
    """Computes what the first rank does until its input ends; the exit status."""
    # Whoever stops the group stops the first rank, which closes this one's input when it has finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    prepare_process(os.environ[DEVICE_VARIABLE], int(os.environ[THREADS_VARIABLE]))
    with redirect_stderr(io.StringIO()):
        from pooling.engine import Engine
    from pooling.parallel import join
    from pooling.ranks import Assignment, decode_inputs, receive

    first = receive(sys.stdin.buffer)
    if first is None:
        return 0
    assignment = Assignment.decode(first)
    batches: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # A thread of its own: while this rank waits for one that is gone, nobody else would notice that its input ended.
    threading.Thread(target=_read, args=(sys.stdin.buffer, batches), daemon=True).start()
    select_device(assignment.device)
    join(assignment.rank, assignment.addresses)
    try:
        engine = Engine.load(resolve_spec(Path(assignment.checkpoint), assignment.options), assignment.device)
    except PoolingError:
        # The first rank meets the same, says it, and closes this one's input. An end before that would take it down
        # unheard. Not by a return: the thread that reads would be in the way.
        time.sleep(LAST_WORDS_SECONDS)
        os._exit(EXIT_CONFIGURATION)
    while True:
        engine.forward(decode_inputs(batches.get()))


def _read(stream: IO[bytes], batches: "queue.SimpleQueue[bytes]") -> None:
    from pooling.ranks import receive

    while (message := receive(stream)) is not None:
        batches.put(message)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
