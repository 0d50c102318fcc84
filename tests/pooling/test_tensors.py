"""Arrays become tensors of the same values, and leave nothing behind."""

import gc

import numpy as np
import paddle
import pytest

from pooling.tensors import tensor_of


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float16, np.bool_])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (0,), (3, 1, 4)])
def test_a_tensor_is_what_paddle_itself_makes_of_the_array(dtype: type, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)) % 3).reshape(shape).astype(dtype)
    found, wanted = tensor_of(array), paddle.to_tensor(array)
    assert (found.shape, found.dtype, found.stop_gradient) == (wanted.shape, wanted.dtype, True)
    assert str(found.place) == str(wanted.place)
    np.testing.assert_array_equal(found.numpy(), array)


def test_a_tensor_is_a_copy_and_strides_do_not_matter() -> None:
    array = np.arange(10, dtype=np.int32)
    found = tensor_of(array[::2])
    array[0] = 99
    assert found.numpy().tolist() == [0, 2, 4, 6, 8]


def lists() -> int:
    gc.collect()
    return sum(type(each) is list for each in gc.get_objects())


def test_a_tensor_leaves_nothing_behind() -> None:
    array, before = np.arange(10, dtype=np.int32), lists()
    for _ in range(1_000):
        tensor_of(array)
    assert lists() - before < 100
