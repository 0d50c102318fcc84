"""Numbers are counted in bounded memory, and parts merge to exactly what the whole would have been."""

import json
import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bulk.distribution import Distribution

NUMBERS = st.lists(st.floats(allow_subnormal=True), max_size=40)
FINITE = st.lists(st.floats(-1000, 1000), min_size=1, max_size=60)


def counted(numbers: list[float]) -> Distribution:
    made = Distribution()
    for number in numbers:
        made.add(number)
    return made


def merged(*parts: Distribution) -> Distribution:
    made = Distribution()
    for part in parts:
        made.merge(part)
    return made


@given(NUMBERS, NUMBERS, NUMBERS)
def test_parts_merge_to_the_whole_in_any_grouping_and_order(a: list[float], b: list[float], c: list[float]) -> None:
    whole = counted([*a, *b, *c]).state()
    assert merged(counted(a), merged(counted(b), counted(c))).state() == whole
    assert merged(merged(counted(c), counted(a)), counted(b)).state() == whole


@given(NUMBERS)
def test_what_was_written_is_read_back(numbers: list[float]) -> None:
    made = counted(numbers)
    again = Distribution.of(json.loads(json.dumps(made.state(), allow_nan=False)))
    assert again.state() == made.state()
    assert again.count == made.count


@given(FINITE)
def test_the_mean_is_that_of_exact_arithmetic(numbers: list[float]) -> None:
    assert counted(numbers).mean == statistics.mean(numbers)


@given(FINITE, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_quantiles_are_those_of_the_sorted_numbers_rounded(numbers: list[float], shares: list[float]) -> None:
    rounded = sorted(np.array(numbers, np.float16).tolist())
    for share, found in zip(sorted(shares), counted(numbers).quantiles(sorted(shares)), strict=True):
        assert found == rounded[max(1, math.ceil(share * len(rounded))) - 1]


@given(NUMBERS)
def test_every_finite_number_is_in_one_bin_and_the_bins_follow_each_other(numbers: list[float]) -> None:
    made = counted(numbers)
    bins = made.bins()
    assert sum(each.count for each in bins) == made.count
    assert all(before.high == after.low for before, after in pairwise(bins))
    assert len(bins) < 30


def test_bins_have_round_edges_and_the_tails_one_bin_each() -> None:
    bins = counted([number / 100 for number in range(1000)] + [-60000.0, 60000.0]).bins()
    assert [(each.low, each.high) for each in bins] == [
        (-math.inf, 0.0),
        *((float(low), float(low + 1)) for low in range(10)),
        (10.0, math.inf),
    ]
    assert [each.count for each in bins] == [1, *[100] * 10, 1]


def test_what_is_no_finite_number_is_counted_apart() -> None:
    made = counted([1.0, math.nan, math.inf, -math.inf, 3.0])
    assert (made.count, made.not_numbers, made.infinite) == (2, 1, 2)
    assert (made.mean, made.smallest, made.largest) == (2.0, 1.0, 3.0)


def test_a_million_different_numbers_take_no_more_than_the_values_of_float16() -> None:
    numbers = np.random.default_rng(0).normal(0, 1e4, 200_000)
    made = counted(numbers.tolist())
    assert len(made._counts) < 65_536
    assert len(json.dumps(made.state())) < 200_000


@pytest.mark.parametrize("number", [1e300, -1e300, 5e-324, -0.0, 65_519.99, 65_520.0])
def test_numbers_beyond_float16_are_counted_and_their_range_is_kept(number: float) -> None:
    made = counted([number])
    assert (made.count, made.smallest, made.largest, made.mean) == (1, number, number, number)
    assert math.isfinite(made.quantiles([0.5])[0])


def test_nothing_has_no_mean_and_no_bins() -> None:
    assert math.isnan(Distribution().mean)
    assert Distribution().bins() == []
    assert math.isnan(Distribution().quantiles([0.5])[0])
