"""The thread that runs the engine: one call after another, the urgent before others."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import PriorityQueue
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(order=True, slots=True)
class _Call:
    """A call and its place in the line."""

    place: tuple[bool, int]
    function: Callable[[], Any] = field(compare=False)
    outcome: "Future[Any]" = field(compare=False)


class EngineThread:
    """Runs whatever is submitted in one thread: OpenMP keeps a team of threads for each thread that calls it.

    Urgent calls come before others, those of a kind in the order in which they came: a micro-batch of interactive
    callers overtakes one of the bulk lane that waits for the engine already.
    """

    def __init__(self) -> None:
        self._calls: PriorityQueue[_Call] = PriorityQueue()
        self._numbers = itertools.count()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, function: Callable[[], T], *, urgent: bool = False) -> "Future[T]":
        """What the function will return, or raise."""
        outcome: Future[T] = Future()
        self._calls.put(_Call((not urgent, next(self._numbers)), function, outcome))
        return outcome

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            if not call.outcome.set_running_or_notify_cancel():
                continue
            try:
                call.outcome.set_result(call.function())
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                call.outcome.set_exception(error)
            del call  # it holds its batch until the next one comes
