"""Arrays on their way to the device."""

import numpy as np
import paddle
from numpy.typing import NDArray


def tensor_of(array: NDArray[np.generic]) -> paddle.Tensor:
    """A tensor with the shape, dtype and values of an array of one axis or more, on the device in use.

    `paddle.to_tensor` loses a Python list, some hundred bytes, with each call (3.3.1: `core.eager.Tensor` never lets go
    of it), and a worker makes a dozen tensors for each micro-batch, night after night. A tensor that an operation made,
    filled afterwards, loses nothing.
    """
    held = paddle.empty([0], dtype=array.dtype.name)
    held.get_tensor().set(np.ascontiguousarray(array), paddle.framework._current_expected_place_())
    return held
