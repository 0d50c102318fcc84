"""`millpond score|embed|rerank`: from a command line to an exit status."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Sequence

from api.bulk.arguments import BulkCommand, parse_bulk
from api.bulk.errors import BulkError, Interrupted
from api.errors import LaunchError

INTERRUPTED = 130
"""The exit status after Ctrl-C or SIGTERM."""


def run(kind: str, arguments: Sequence[str]) -> int:
    """Runs a bulk command; the exit status.

    Raises:
        LaunchError: it cannot begin, or not go on.
    """
    command = parse_bulk(kind, arguments)
    try:
        return asyncio.run(_run(command))
    except BulkError as error:
        raise LaunchError(str(error)) from error
    except BrokenPipeError:
        # Who read along has gone, as `| head` does. What is done is done, and the same command goes on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Interrupted:
        print(f"\nstopped; go on with the same command:\n  {shlex.join(['millpond', kind, *arguments])}", flush=True)
        return INTERRUPTED


async def _run(command: BulkCommand) -> int:
    # Imported late: `--help` and a wrong flag are answered at once.
    from api.bulk.backfill import Backfill
    from api.bulk.stopping import Stop
    from api.bulk.trying import Trial
    from scheduler.memory import keep_small

    keep_small()
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await (Trial(command, stop) if command.dry_run else Backfill(command, stop)).run()
