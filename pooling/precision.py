"""The types that a model computes in, and what Paddle's CPU build makes necessary for those of 16 bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.device import processor_has_bfloat16


@dataclass(frozen=True)
class Precision:
    """The types in which a model is held and computed.

    Attributes:
        weights: "float32", "bfloat16" or "float16": of matrices and embeddings.
        activations: of everything else. On a CPU always float32, since Paddle has no other operators there.
        multiplies: whether compiled programs multiply 16-bit weights as they are. Else each is widened as it is used.
        int8: whether linear layers hold whole numbers of a byte and a step for each output (`quantization`) instead.
    """

    weights: str = "float32"
    activations: str = "float32"
    multiplies: bool = False
    int8: bool = False


_current = Precision()


def current_precision() -> Precision:
    """The types of the layers that are built now."""
    return _current


@contextmanager
def building(precision: Precision) -> Iterator[None]:
    """Build layers in these types."""
    global _current
    before, _current = _current, precision
    try:
        yield
    finally:
        _current = before


@contextmanager
def unquantized() -> Iterator[None]:
    """Build layers whose numbers must stay as exact as they are: a router, and what stands behind the pooler."""
    with building(replace(_current, int8=False)):
        yield


def precision_on(device: str, dtype: str, quantization: str = "none") -> Precision:
    """The types of a model of that dtype on a device; `quantization` is "none", or "int8" on a CPU."""
    if device != "cpu":
        return Precision(dtype, dtype)
    int8 = quantization == "int8"
    # What is left in 16 bits beside int8 is looked up, or multiplied with a few rows: nothing to compile for.
    multiplies = dtype == "bfloat16" and not int8 and processor_has_bfloat16()
    return Precision(dtype, "float32", multiplies, int8)


def product(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None,
    precision: Precision,
    *,
    narrow: bool = False,
) -> paddle.Tensor:
    """x [.., inputs] times the transpose of weight [outputs, inputs], plus bias; in the type of activations.

    Args:
        narrow: leave it in the type of weights where the product is made in it, for something that is multiplied next.
    """
    if precision.weights == precision.activations:
        found = paddle.matmul(x, weight, transpose_y=True)
    elif paddle.in_dynamic_mode() or not precision.multiplies:
        found = paddle.matmul(x, weight.astype(precision.activations), transpose_y=True)
    else:
        # oneDNN's own product of bfloat16, which adds up in float32: three times as fast where the processor has it.
        found = paddle.matmul(as_type(x, weight.dtype), weight, transpose_y=True)
        found = found if narrow else found.astype(precision.activations)
    return found if bias is None else found + as_type(bias, found.dtype)


def as_type(x: paddle.Tensor, dtype: object) -> paddle.Tensor:
    """x in that type; x itself where it is of that type already, of which Paddle would make a copy."""
    return x if x.dtype == dtype else x.astype(dtype)


def write(parameter: paddle.Tensor, place: tuple[slice, ...], values: NDArray[np.float32 | np.int8]) -> None:
    """Write float32 values into a part of a parameter, rounded to its type; or int8 into one of int8.

    On a CPU they go into its memory directly: through Paddle's own assignment each slab would be copied twice more.
    """
    if not parameter.place.is_cpu_place():
        with paddle.no_grad():
            parameter[place] = paddle.to_tensor(values).astype(parameter.dtype)
        return
    if parameter.dtype == paddle.bfloat16:
        memory = np.from_dlpack(parameter.detach().view("int16"))
        memory.view(np.uint16)[place] = bfloat16_bits(values.astype(np.float32, copy=False))
    else:
        np.from_dlpack(parameter.detach())[place] = values


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 of each number, the even one of two; numpy has no such type."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)).astype(
        np.uint16
    )
    # The carry could turn a not-a-number into infinity.
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
