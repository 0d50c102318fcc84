"""`--quantization int8`: weights of linear layers as whole numbers of a byte, and a step for each output."""

import numpy as np
import paddle
from numpy.typing import NDArray

# The range is symmetric: -128 is never used, so that 0 is 0.
LARGEST = 127


def quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The nearest whole numbers from -127 to 127 of steps that are a row's own, and these steps.

    Args:
        weight: float32 [outputs, inputs], at least one of each.

    Returns:
        int8 [outputs, inputs] and float32 [outputs], whose product differs from the weight by half a step at most. A
        row of zeros has the step 1. A row with a number that is none, or infinite, has such a step.
    """
    steps = np.abs(weight).max(axis=1) / np.float32(LARGEST)
    # Of a row so small that its step has lost its digits, zeros are left.
    steps = np.where(steps < np.finfo(np.float32).tiny, np.float32(1), steps)
    with np.errstate(invalid="ignore"):
        numbers = weight / steps[:, None]
        return np.rint(numbers, out=numbers).astype(np.int8), steps


def product_of_int8(
    x: paddle.Tensor, weight: paddle.Tensor, steps: paddle.Tensor, bias: paddle.Tensor | None
) -> paddle.Tensor:
    """x float32 [.., inputs] times the transpose of what int8 [outputs, inputs] stands for, plus bias; float32.

    The whole numbers are widened as they are used and forgotten again, and the steps multiplied into the result: so the
    numbers are exact in bfloat16 too, in which `--float32-matmul-precision medium` multiplies.
    """
    found = paddle.matmul(x, weight.astype(x.dtype), transpose_y=True) * steps
    return found if bias is None else found + bias
