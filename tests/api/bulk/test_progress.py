"""A person sees one line that moves, a log gets a line now and then; both tell the rate of this run."""

import io
import os
import pty

import pytest

from api.bulk.progress import PLAIN_SECONDS, WINDOW_SECONDS, Progress, duration, rate_shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """The lines that a terminal would show, without what was written over."""
        rows = [""]
        for piece in self.getvalue():
            if piece == "\r":
                column = 0
            elif piece == "\n":
                rows.append("")
                column = 0
            else:
                rows[-1] = rows[-1][:column] + piece + rows[-1][column + 1 :]
                column += 1
        return [row.rstrip() for row in rows]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_one_line_is_drawn_again_and_again() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(1000, terminal, clock, columns=lambda: 104)
    for done in (0, 100, 200):
        progress.update(done, 3, 4, 12)
        clock.time += 20
    progress.close()
    assert terminal.screen == [
        "[###............]  20% 200 of 1,000 rows, 5.0 rows/s, 2 min 40 s left, 3 failed, 12 queued, 4 identical",
        "",
    ]


def test_a_note_stays_above_the_line() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(10, terminal, clock, columns=lambda: 100)
    progress.update(5, 0, 0, None)
    progress.note("the server answers again")
    assert terminal.screen[0] == "the server answers again"
    assert " 50% 5 of 10 rows" in terminal.screen[1]
    assert len(terminal.screen) == 2


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 80, 200])
def test_the_line_is_never_wider_than_the_terminal(columns: int) -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(10**9, terminal, clock, columns=lambda: columns)
    for done in (0, 10**8, 10**9 - 1):
        clock.time += 1
        progress.update(done, 10**6, 10**7, 10**5)
    progress.close()
    assert all(len(row) < max(2, columns) for row in terminal.screen)
    assert columns < 20 or "99% 999,999,999 of"[: columns - 3] in terminal.screen[0]


def test_it_is_drawn_no_more_often_than_can_be_read() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(1000, terminal, clock, columns=lambda: 80)
    for done in range(1000):
        clock.time += 0.001
        progress.update(done, 0, 0, None)
    assert terminal.getvalue().count("\r") == 5


def test_rows_of_earlier_runs_count_as_done_and_not_into_the_rate() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(1000, terminal, clock, done_before=900, columns=lambda: 100)
    progress.update(900, 0, 0, 0)
    clock.time += 5
    progress.update(910, 0, 0, 0)
    assert progress.rate == 2.0
    assert "91% 910 of 1,000 rows, 2.0 rows/s, 45 s left" in terminal.screen[0]


def test_the_time_before_the_first_update_is_not_in_the_rate() -> None:
    clock = Clock()
    progress = Progress(1000, io.StringIO(), clock, done_before=100)
    assert progress.rate == 0.0
    clock.time += 30
    for done in (100, 120):
        progress.update(done, 0, 0, None)
        clock.time += 2
    assert progress.rate == 10.0


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(10**6, terminal, clock)
    done = 0
    for speed, seconds in ((1000, 300), (10, int(WINDOW_SECONDS) + 2)):
        for _ in range(seconds * 4):
            clock.time += 0.25
            done += speed // 4
            progress.update(done, 0, 0, None)
    assert progress.rate == pytest.approx(8.0, rel=0.05)


def test_the_marks_that_the_rate_needs_are_bounded() -> None:
    clock = Clock()
    progress = Progress(10**9, io.StringIO(), clock)
    for done in range(20_000):
        clock.time += 0.01
        progress.update(done, 0, 0, None)
    assert len(progress._marks) < WINDOW_SECONDS + 5


def test_what_is_waited_for_stands_in_place_of_rate_and_estimate() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress(10, terminal, clock, columns=lambda: 100)
    progress.update(5, 0, 0, None, waiting_for="the server at http://mill:8080")
    assert terminal.screen[0].endswith("50% 5 of 10 rows, waiting for the server at http://mill:8080, 0 failed")


def test_a_log_gets_a_line_every_ten_seconds_and_at_every_tenth() -> None:
    clock, log = Clock(), io.StringIO()
    progress = Progress(1000, log, clock)
    progress.update(0, 0, 0, 7)
    for done in (1, 2, 3, 150, 160, 170):
        clock.time += 4
        progress.update(done, 0, 0, 7)
    clock.time += PLAIN_SECONDS
    progress.update(170, 0, 0, 7)
    progress.note("something to know")
    assert log.getvalue().splitlines() == [
        "  0% 3 of 1,000 rows, 0.2 rows/s, 1 h 6 min left, 0 failed, 7 queued",
        " 15% 150 of 1,000 rows, 9.4 rows/s, 1 min 31 s left, 0 failed, 7 queued",
        " 17% 170 of 1,000 rows, 5.0 rows/s, 2 min 46 s left, 0 failed, 7 queued",
        "something to know",
    ]


def test_the_end_of_a_log_is_the_last_state() -> None:
    clock, log = Clock(), io.StringIO()
    progress = Progress(1000, log, clock)
    progress.update(0, 0, 0, 0)
    clock.time += 1
    progress.update(5, 2, 0, 0)
    progress.close()
    assert log.getvalue() == "  0% 5 of 1,000 rows, 5.0 rows/s, 3 min 19 s left, 2 failed, 0 queued\n"


def test_a_log_does_not_get_the_last_line_twice() -> None:
    clock, log = Clock(), io.StringIO()
    progress = Progress(10, log, clock)
    progress.update(0, 0, 0, 0)
    clock.time += 1
    progress.update(10, 0, 0, 0)
    progress.close()
    progress.close()
    assert log.getvalue() == "100% 10 of 10 rows, 10 rows/s, 0 failed, 0 queued\n"


def test_an_input_without_rows_is_done() -> None:
    log = io.StringIO()
    progress = Progress(0, log, Clock())
    progress.update(0, 0, 0, None)
    progress.close()
    assert log.getvalue() == "100% 0 of 0 rows, 0 failed\n"


def test_a_real_terminal_is_known_as_one() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        progress = Progress(10, stream, columns=lambda: 60)
        progress.update(5, 0, 0, None)
        progress.close()
        assert os.read(leader, 1000).startswith(b"\r[")
    os.close(leader)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (12_000, "3 h 20 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_times_are_said_in_two_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("rate", "shown"), [(0, "0.0"), (0.26, "0.3"), (9.94, "9.9"), (10.4, "10"), (12_345, "12,345")]
)
def test_rates_have_the_digits_that_mean_something(rate: float, shown: str) -> None:
    assert rate_shown(rate) == shown
