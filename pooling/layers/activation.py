"""The activation functions that config.json names."""

from collections.abc import Callable, Mapping
from functools import partial

import paddle
from paddle.nn import functional

from pooling.errors import CheckpointError


def quick_gelu(x: paddle.Tensor) -> paddle.Tensor:
    """x sigmoid(1.702 x): CLIP's approximation of GELU (Hendrycks and Gimpel 2016)."""
    # Swish of the scaled input: on a CPU in half the time of a sigmoid and a product.
    return functional.swish(1.702 * x) * (1 / 1.702)


ACTIVATIONS: Mapping[str, Callable[[paddle.Tensor], paddle.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "relu": functional.relu,
    "silu": functional.swish,  # the same; oneDNN has only this one, and Paddle's own takes one thread
}


def activation(name: str) -> Callable[[paddle.Tensor], paddle.Tensor]:
    """The activation function of that name.

    Raises:
        CheckpointError: the name is not known.
    """
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json has hidden_act {name}, which is not supported: use a model with one of "
            f"{', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]
