"""What fits into memory is measured, and what does not fit is refused before it is served."""

from collections.abc import Iterator

import numpy as np
import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine
from pooling.errors import OptionError
from pooling.memory import LONGEST_ON_CPU, HostMemory, fitting_tokens, largest_batch
from pooling.model_options import ModelOptions
from tests.pooling.conftest import TINY_BERT
from tests.pooling.test_families import FAMILIES


class MadeMemory:
    """A memory of a thousand bytes, of which the model takes 200 and a forward so many."""

    def __init__(self, forward: int) -> None:
        self.forward = forward

    def total(self) -> int:
        return 1000

    def held(self) -> int:
        return 200

    def forget_peak(self) -> None:
        pass

    def peak(self) -> int:
        return 200 + self.forward


def fitting(engine: Engine, memory: MadeMemory, device: str = "gpu", utilization: float = 0.9) -> int:
    # The tiny model's longest sequence is 64 tokens: 256 tokens are four of them.
    return fitting_tokens(
        engine, device, max_num_batched_tokens=256, max_num_seqs=8, utilization=utilization, memory=memory
    )


class HalfFreeMemory(MadeMemory):
    """One of which the process holds as much again as it uses, until it is told to give that up."""

    given_up = False

    def held(self) -> int:
        return 200 if self.given_up else 400

    def forget_peak(self) -> None:
        self.given_up = True


def test_what_is_held_and_not_used_makes_a_forward_seem_no_smaller(tiny_engine: Engine) -> None:
    assert fitting(tiny_engine, HalfFreeMemory(forward=1400)) == 128


def test_a_batch_that_fits_is_left_as_it_is(tiny_engine: Engine) -> None:
    assert fitting(tiny_engine, MadeMemory(forward=700)) == 256


def test_a_batch_that_does_not_fit_is_made_smaller(tiny_engine: Engine) -> None:
    assert fitting(tiny_engine, MadeMemory(forward=1400)) == 128


def test_on_a_cpu_the_size_of_a_batch_takes_no_memory(tiny_engine: Engine) -> None:
    assert fitting(tiny_engine, MadeMemory(forward=1400), device="cpu") == 256


def test_a_sequence_that_does_not_fit_is_refused_with_the_length_that_does(tiny_engine: Engine) -> None:
    with pytest.raises(OptionError, match=r"sequence of 64 tokens does not fit.*--max-model-len 25\."):
        fitting(tiny_engine, MadeMemory(forward=7000))


def test_a_model_that_does_not_fit_is_refused(tiny_engine: Engine) -> None:
    with pytest.raises(OptionError, match=r"--gpu-memory-utilization 0.2 allows .*--tensor-parallel-size"):
        fitting(tiny_engine, MadeMemory(forward=1), utilization=0.2)


def test_the_largest_batch_has_the_longest_sequence_and_is_full() -> None:
    spec = resolve_spec(TINY_BERT)
    assert largest_batch(spec, "cpu", 150, 256) == [64, 64, 22]
    assert largest_batch(spec, "cpu", 150, 2) == [64, 64]
    assert largest_batch(spec, "cpu", 10, 256) == [64]


def test_on_a_cpu_a_long_sequence_is_not_computed_at_the_start() -> None:
    spec = resolve_spec(FAMILIES / "llama", ModelOptions())
    assert largest_batch(spec, "cpu", 1, 1) == [spec.max_model_len]
    assert spec.max_model_len < LONGEST_ON_CPU


@pytest.fixture
def host() -> Iterator[HostMemory]:
    yield HostMemory()


def test_the_machines_memory_is_read(host: HostMemory) -> None:
    assert 0 < host.held() < host.total()
    host.forget_peak()
    before = host.peak()
    block = np.ones(64 * 1024 * 1024, dtype=np.uint8)
    assert host.peak() - before > block.nbytes // 2
