"""What batches will take, learned from those that ran."""

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.cost import Cost, Sample

Truth = Callable[[int, int], float]

SIZES = [(1, 12), (1, 60), (4, 60), (16, 60), (30, 68), (200, 10), (1, 256), (8, 256)]
"""Sequences and their length."""


def truth(a: float, b: float, c: float) -> Truth:
    return lambda tokens, squares: a + b * tokens + c * squares


def batches(seed: int, of: Truth, count: int, noise: float = 0.0) -> Iterator[Sample]:
    chance = random.Random(seed)
    for _ in range(count):
        sequences, length = chance.choice(SIZES)
        tokens, squares = sequences * length, sequences * length**2
        yield Sample(tokens, squares, of(tokens, squares) * chance.lognormvariate(0, noise))


def worst(cost: Cost, of: Truth) -> float:
    """The largest relative error."""
    errors = []
    for sequences, length in SIZES:
        real = of(sequences * length, sequences * length**2)
        errors.append(abs(cost.seconds(sequences * length, sequences * length**2) - real) / real)
    return max(errors)


CPU, GPU, LONG = truth(0.006, 0.00018, 2e-8), truth(0.004, 0.000002, 1e-11), truth(0.002, 0.00001, 1e-7)


@pytest.mark.parametrize("of", [CPU, GPU, LONG])
def test_a_few_batches_tell_the_cost_of_all(of: Truth) -> None:
    assert worst(Cost.of(batches(0, of, 12)), of) < 0.05


@pytest.mark.parametrize("of", [CPU, GPU, LONG])
def test_noise_and_outliers_do_not_mislead(of: Truth) -> None:
    cost, chance = Cost.of(batches(1, of, 10)), random.Random(2)
    errors = []
    for sample in batches(3, of, 400, noise=0.1):
        slow = chance.random() < 0.03
        cost.learn(sample._replace(seconds=sample.seconds * 20) if slow else sample)
        errors.append(worst(cost, of))
    assert sum(errors) / len(errors) < 0.12
    assert max(errors) < 0.4


def test_a_worker_that_becomes_slower_for_good_is_believed() -> None:
    cost = Cost.of(batches(0, CPU, 100, noise=0.1))
    slower = truth(0.018, 0.00054, 6e-8)
    for sample in batches(1, slower, 150, noise=0.1):
        cost.learn(sample)
    assert worst(cost, slower) < 0.25


def test_the_same_batch_for_an_hour_does_not_make_it_forget_the_others() -> None:
    cost = Cost.of(batches(0, CPU, 30))
    for _ in range(5_000):
        cost.learn(Sample(60, 3600, CPU(60, 3600)))
    assert worst(cost, CPU) < 0.5
    assert cost.seconds(60, 3600) == pytest.approx(CPU(60, 3600), rel=0.02)


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_tens_of_thousands_of_batches_that_are_nearly_alike_lead_nowhere(noise: float) -> None:
    """Full batches of short texts, as of a backfill."""
    cost, chance = Cost.of(batches(0, CPU, 16)), random.Random(5)
    for _ in range(20_000):
        length = chance.uniform(18, 24)
        tokens = chance.randint(2_000, 2_048)
        squares = round(tokens * length)
        cost.learn(Sample(tokens, squares, CPU(tokens, squares) * chance.lognormvariate(0, noise)))
        assert cost.seconds(2_048, 2_048 * 20) < 3 * CPU(2_048, 2_048 * 20)
        assert cost.seconds(512, 512 * 64) < 3 * CPU(512, 512 * 64)
    assert cost.seconds(2_048, 2_048 * 20) == pytest.approx(CPU(2_048, 2_048 * 20), rel=max(0.05, noise))
    assert worst(cost, CPU) < 0.3 + 2 * noise


def test_nothing_is_known_before_the_first_batch_and_something_after_it() -> None:
    cost = Cost()
    assert cost.seconds(100, 1_000) == 0
    cost.learn(Sample(100, 1_000, 0.5))
    assert cost.seconds(100, 1_000) == pytest.approx(0.5, rel=0.05)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(1, 100_000), st.integers(1, 10**9), st.floats(0, 1e4, allow_nan=False)), max_size=60)
)
def test_whatever_it_is_told_it_expects_no_less_than_nothing_and_no_infinity(
    told: list[tuple[int, int, float]],
) -> None:
    cost = Cost.of(Sample(*each) for each in told)
    assert 0 <= cost.seconds(1_000, 100_000) < 1e12
