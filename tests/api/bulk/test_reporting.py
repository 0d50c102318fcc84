"""What executors say reaches the command, and what cannot be cured ends it."""

import os

from api.bulk.reporting import MOST_BEGINNINGS, MOST_FAILURES, Reporter, Reports


def heard(say: "list[tuple[str, tuple[object, ...]]]") -> Reports:
    """What is known after a reporter said all this."""
    reading, writing = os.pipe()
    reporter = Reporter(writing)
    for name, arguments in say:
        getattr(reporter, name)(*arguments)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    reports = Reports()
    for line in lines:
        reports.take(line)
    return reports


def test_rows_of_running_chunks_count_until_the_chunk_ends_or_begins_again() -> None:
    said = [("begins", (1,)), ("done", (1, 10, 5)), ("begins", (2,)), ("done", (2, 7, None)), ("done", (1, 3, 4))]
    assert heard(said).running_rows == 20
    assert heard(said).queue_depth == 4
    assert heard([*said, ("ends", (1,))]).running_rows == 7
    assert heard([*said, ("begins", (1,))]).running_rows == 7


def test_what_is_waited_for_is_known_until_it_is_over() -> None:
    assert heard([("waits", ("the server",))]).waiting_for == "the server"
    assert heard([("waits", ("the server",)), ("waits", (None,))]).waiting_for is None


def test_the_first_reason_to_stop_counts_however_long_it_is() -> None:
    reason = heard([("stop", ("ü" * 5_000,)), ("stop", ("another",))]).reason
    assert reason and set(reason) == {"ü"}


def test_a_chunk_that_fails_again_and_again_ends_the_run() -> None:
    assert heard([("failed", (1, "no"))] * (MOST_FAILURES - 1) + [("failed", (2, "no"))]).reason is None
    assert "Chunk 1 failed" in str(heard([("failed", (1, "no"))] * MOST_FAILURES).reason)


def test_a_chunk_over_which_every_executor_dies_ends_the_run() -> None:
    assert heard([("begins", (1,))] * MOST_BEGINNINGS).reason is None
    assert heard([("begins", (1,)), ("ends", (1,))] * 2 * MOST_BEGINNINGS).reason is None
    assert "die over chunk 1" in str(heard([("begins", (1,))] * (MOST_BEGINNINGS + 1)).reason)


def test_a_command_that_has_gone_stops_nobody_from_saying_something() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Reporter(writing).begins(1)
    os.close(writing)
