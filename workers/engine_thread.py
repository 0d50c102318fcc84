"""The thread that runs the engine: one call after another, the urgent before others."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import PriorityQueue
from typing import Any, TypeVar

T = TypeVar("T")


LEAD = 4
"""By how many calls an urgent one goes before others: a batch that waits is overtaken by no more than so many."""


@dataclass(order=True, slots=True)
class _Call:
    """A call and its place in the line."""

    place: tuple[int, bool, int]
    function: Callable[[], Any] = field(compare=False)
    outcome: "Future[Any]" = field(compare=False)


class EngineThread:
    """Runs whatever is submitted in one thread: OpenMP keeps a team of threads for each thread that calls it.

    Urgent calls come before others, those of a kind in the order in which they came: a micro-batch of interactive
    callers overtakes one of the bulk lane that waits for the engine already, unless many have done so.
    """

    def __init__(self) -> None:
        self._calls: PriorityQueue[_Call] = PriorityQueue()
        self._numbers = itertools.count()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, function: Callable[[], T], *, urgent: bool = False) -> "Future[T]":
        """What the function will return, or raise."""
        outcome: Future[T] = Future()
        number = next(self._numbers)
        self._calls.put(_Call((number - LEAD * urgent, not urgent, number), function, outcome))
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
