"""The thread that runs the engine."""

import threading

import pytest

from workers.engine_thread import LEAD, EngineThread


def test_urgent_calls_overtake_those_that_wait_and_not_the_one_that_runs() -> None:
    thread, order = EngineThread(), list[str]()
    begun, go_on = threading.Event(), threading.Event()

    def running() -> None:
        begun.set()
        assert go_on.wait(10)
        order.append("running")

    calls = [thread.submit(running)]
    assert begun.wait(10)
    for name, urgent in (("bulk", False), ("more bulk", False), ("first", True), ("second", True)):
        calls.append(thread.submit(lambda name=name: order.append(name), urgent=urgent))  # type: ignore[misc]
    go_on.set()
    for call in calls:
        call.result(10)
    assert order == ["running", "first", "second", "bulk", "more bulk"]


def test_a_call_is_overtaken_by_only_so_many() -> None:
    thread, order = EngineThread(), list[str]()
    begun, go_on = threading.Event(), threading.Event()

    def running() -> None:
        begun.set()
        assert go_on.wait(10)

    calls = [thread.submit(running)]
    assert begun.wait(10)
    calls.append(thread.submit(lambda: order.append("bulk")))
    for number in range(LEAD + 3):
        calls.append(thread.submit(lambda number=number: order.append(str(number)), urgent=True))  # type: ignore[misc]
    go_on.set()
    for call in calls:
        call.result(10)
    assert order.index("bulk") == LEAD


def test_every_call_runs_in_the_same_thread_and_a_failure_ends_only_its_own() -> None:
    thread = EngineThread()

    def failing() -> None:
        raise ValueError("no")

    first = thread.submit(threading.get_ident)
    with pytest.raises(ValueError, match="no"):
        thread.submit(failing).result(10)
    assert thread.submit(threading.get_ident).result(10) == first.result(10) != threading.get_ident()
