"""How a bulk command is told to stop, and how what it does meanwhile is left."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from api.bulk.errors import Interrupted

GRACE_SECONDS = 5.0
"""For a thread to come to a place where it can stop; then it is left, as at `kill -9`, which nothing is harmed by."""

T = TypeVar("T")


class Stop:
    """Set once, by a signal; for the event loop and for threads."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self.for_threads = threading.Event()

    def set(self) -> None:
        """From now on nothing new is begun."""
        self.for_threads.set()
        self._told.set()

    def check(self) -> None:
        """Raises Interrupted once it is set."""
        if self.for_threads.is_set():
            raise Interrupted

    async def unless(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled when the command is told to stop; then raises Interrupted."""
        running, told = asyncio.ensure_future(work), asyncio.ensure_future(self._told.wait())
        try:
            await asyncio.wait((running, told), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            raise Interrupted
        finally:
            told.cancel()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await running

    async def unless_in_thread(self, work: Callable[[], T]) -> T:
        """The result of blocking `work`, which should look at `for_threads` often; raises Interrupted where it stops.

        The thread is a daemon, as the command does not wait for it for ever.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(settle, result, failed)

        threading.Thread(target=run, name="bulk", daemon=True).start()
        told = asyncio.ensure_future(self._told.wait())
        await asyncio.wait((done, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not done.done():
            await asyncio.wait((done,), timeout=GRACE_SECONDS)
        if done.done():
            return done.result()
        raise Interrupted
