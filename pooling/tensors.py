"""Arrays on their way to the device, and numbers on their way back.

On a GPU both ways lead through page-locked memory, so that copies wait for no kernel and nobody waits for copies: the
next forward is launched while one computes. That part was not run by its authors, whose machines have no GPU.
"""

import time

import numpy as np
import paddle
from numpy.typing import NDArray

_sent: list[paddle.Tensor] = []
"""Page-locked memory that copies to a GPU may still be reading. One thread fills it: the one that computes."""


def tensor_of(array: NDArray[np.generic]) -> paddle.Tensor:
    """A tensor with the shape, dtype and values of an array of one axis or more, on the device in use.

    `paddle.to_tensor` loses a Python list, some hundred bytes, with each call (3.3.1: `core.eager.Tensor` never lets go
    of it), and a worker makes a dozen tensors for each micro-batch, night after night. A tensor that an operation made,
    filled afterwards, loses nothing.
    """
    held = paddle.empty([0], dtype=array.dtype.name)
    place = paddle.framework._current_expected_place_()
    if not place.is_gpu_place():
        held.get_tensor().set(np.ascontiguousarray(array), place)
        return held
    held.get_tensor().set(np.ascontiguousarray(array), paddle.CUDAPinnedPlace())
    _sent.append(held)
    return held._copy_to(place, False)


class Arriving:
    """A float32 tensor's numbers on their way to the host. On a CPU they are there at once.

    Attributes:
        arrived_ns: when they were there, by `time.perf_counter_ns`; known once `array` has returned.
    """

    def __init__(self, tensor: paddle.Tensor) -> None:
        """Begins to fetch a tensor, behind all that the device has been told to do."""
        self._event = None
        if not tensor.place.is_gpu_place():
            self._array: NDArray[np.float32] = tensor.numpy()
            self.arrived_ns = time.perf_counter_ns()
            return
        self._tensor = tensor._copy_to(paddle.CUDAPinnedPlace(), False)
        self._event = paddle.device.cuda.Event()
        self._event.record()
        self._sources, _sent[:] = [*_sent], []  # which are read by now when the numbers are there

    def array(self) -> NDArray[np.float32]:
        """The numbers, once the device has them. From any thread."""
        if self._event is not None:
            self._event.synchronize()
            self.arrived_ns = time.perf_counter_ns()
            self._array = self._tensor.numpy()
            self._event = None
            self._sources.clear()
        return self._array
