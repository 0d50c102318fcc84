"""A role of Millpond as `python -m MODULE` runs it, with an account of the processor time of each function.

    python -m benchmarks.profiled MODULE OUTPUT

OUTPUT is written when the role ends: JSON, by function the calls, the seconds in it alone and those with what it calls,
of all threads together, since the last SIGUSR2 or the start. Waiting costs nothing there, as it is each thread's own
clock that counts. Python 3.12 and later profile one thread at a time, and refuse the others.
"""

import asyncio
import cProfile
import importlib
import inspect
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Costs = dict[str, tuple[int, float, float]]

_ACCOUNTS: list[cProfile.Profile] = []


def account() -> cProfile.Profile:
    """A new account for the thread that asks."""
    made = cProfile.Profile(time.thread_time)
    _ACCOUNTS.append(made)
    return made


def profile_threads() -> None:
    """Gives each thread that is started from now on an account."""
    original: Callable[[threading.Thread], None] = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        account().runcall(original, thread)

    threading.Thread.run = run  # type: ignore[method-assign]


def costs() -> Costs:
    """What all accounts say now, while they go on."""
    found: Costs = {}
    for each in list(_ACCOUNTS):
        each.snapshot_stats()
        for (file, line, function), (_, calls, own, whole, _) in each.stats.items():
            name = f"{'/'.join(file.split('/')[-2:])}:{line} {function}"
            before = found.get(name, (0, 0.0, 0.0))
            found[name] = (before[0] + calls, before[1] + own, before[2] + whole)
    return found


def main() -> None:
    """Runs the role until SIGTERM."""
    module, output = sys.argv[1:3]
    sys.argv = [module]
    begun: Costs = {}
    # uvicorn hands SIGTERM on when it has stopped: that must not keep the account from being written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGUSR2, lambda *_: begun.update(costs()))
    profile_threads()
    role = importlib.import_module(f"{module}.__main__").main

    def run() -> None:
        if inspect.iscoroutinefunction(role):
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(role())
        else:
            role()

    with suppress(SystemExit):
        account().runcall(run)
    nothing = (0, 0.0, 0.0)
    spent = {
        name: [now - before for now, before in zip(total, begun.get(name, nothing), strict=True)]
        for name, total in costs().items()
    }
    Path(output).write_text(json.dumps(spent))


if __name__ == "__main__":
    main()
