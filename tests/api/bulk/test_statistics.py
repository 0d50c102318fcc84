"""What is told at the end is the same however the rows were cut into chunks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bulk import statistics
from api.bulk.statistics import MOST_SUBSETS, Statistics
from tests.api.bulk.outcomes import Known, pair

SCORES = st.floats(width=32)
OUTCOMES = st.one_of(
    st.builds(Known, st.lists(SCORES, max_size=4).map(tuple)),
    st.builds(pair, SCORES, SCORES, st.sampled_from([None, "chat", "code", "math", "\ud800"])),
)
ROWS = st.lists(st.tuples(OUTCOMES, st.integers(0, 10**6), st.booleans()) | st.none(), max_size=30)
Rows = list[tuple[Known, int, bool] | None]


def counted(rows: Rows) -> Statistics:
    made = Statistics()
    for row in rows:
        if row is None:
            made.add_bad()
        else:
            made.add(row[0], tokens=row[1], duplicate=row[2])
    return made


def merged(*parts: Statistics) -> Statistics:
    made = Statistics()
    for part in parts:
        made.merge(part)
    return made


def same(one: Statistics, other: Statistics) -> bool:
    """The order in which subsets came is nothing that is told."""
    return one.report() == other.report() and sorted(one.encode()) == sorted(other.encode())


@given(ROWS, ROWS, ROWS)
def test_parts_merge_to_the_whole_in_any_grouping_and_order(a: Rows, b: Rows, c: Rows) -> None:
    whole = counted([*a, *b, *c])
    assert same(merged(counted(a), merged(counted(b), counted(c))), whole)
    assert same(merged(merged(counted(c), counted(a)), counted(b)), whole)


@given(ROWS)
def test_what_was_written_is_read_back(rows: Rows) -> None:
    made = counted(rows)
    again = Statistics.decode(made.encode())
    assert again.encode() == made.encode()
    assert again.report() == made.report()


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=4))
def test_too_many_subsets_are_left_out_whatever_the_order(chunks: list[list[str]]) -> None:
    names = {name for chunk in chunks for name in chunk}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "MOST_SUBSETS", 3)
        parts = [counted([(pair(1.0, 0.0, name), 1, False) for name in chunk]) for chunk in chunks]
        for order in (parts, parts[::-1]):
            found = merged(*order).subsets
            assert (found is None) == (len(names) > 3)
            assert found is None or set(found) == names


def test_a_tie_and_a_score_that_is_no_number_are_no_wins() -> None:
    made = counted([(each, 0, False) for each in (pair(2, 1), pair(1, 1), pair(1, 2), pair(math.nan, 1))])
    assert (made.pairs.won, made.pairs.tied, made.pairs.lost) == (1, 1, 2)
    assert made.pairs.accuracy == 0.25
    assert made.pairs.mean_margin == 0.0


def test_a_tie_that_is_told_without_a_winner_is_a_pair() -> None:
    made = counted([(Known((1.0, 1.0), None, True), 0, False)])
    assert (made.pairs.count, made.pairs.tied) == (1, 1)


def test_subsets_have_an_accuracy_each() -> None:
    made = counted([(pair(2, 1, "code"), 0, False), (pair(1, 2, "code"), 0, False), (pair(3, 1, "chat"), 0, False)])
    assert made.subsets is not None
    assert {name: each.accuracy for name, each in made.subsets.items()} == {"code": 0.5, "chat": 1.0}
    assert made.report(80)[-3:] == [
        "  subset  pairs  accuracy  tied  mean margin",
        "  chat        1    1.0000     0            2",
        "  code        2    0.5000     0            0",
    ]


def test_the_report_tells_rows_scores_and_pairs_in_the_width_that_there_is() -> None:
    made = counted(
        [(pair(number % 7, number % 5, f"subset {'x' * 90} {number % 3}"), 9, number % 2 == 0) for number in range(200)]
    )
    made.add_bad(3)
    lines = made.report(60)
    assert lines[0] == "203 rows: 200 answered (100 from an identical row), 3 bad; 1,800 tokens"
    assert "400 scores" in lines
    assert "  mean 2.485, median 2, from 0 to 6" in lines
    assert "200 pairs: accuracy 0.5600 (chosen > rejected; a tie is not a win)" in lines
    assert max(map(len, lines[2:])) <= 66


def test_rows_without_scores_have_a_line_of_counts_and_no_more() -> None:
    assert counted([(Known(), 5, False), None]).report() == [
        "2 rows: 1 answered (0 from an identical row), 1 bad; 5 tokens"
    ]


def test_more_subsets_than_are_told_apart_are_said_so() -> None:
    made = counted([(pair(1, 0, str(number)), 0, False) for number in range(MOST_SUBSETS + 1)])
    assert made.report()[-1] == f"  more than {MOST_SUBSETS} subsets: not told apart"
    assert made.pairs.count == MOST_SUBSETS + 1
