"""What is applied to scores, in numpy: the worker and the api compute the same."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pooling.pooler_config import Activation

Scores = NDArray[np.float32]


def activated(scores: Scores, activation: Activation) -> Scores:
    """The activation of each row's scores, float32 [rows, labels]."""
    return _ACTIVATIONS[activation](scores)


def _softmax(x: Scores) -> Scores:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(x: Scores) -> Scores:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))  # never overflows


_ACTIVATIONS: Mapping[Activation, Callable[[Scores], Scores]] = {
    Activation.NONE: np.asarray,
    Activation.SIGMOID: _sigmoid,
    Activation.SOFTMAX: _softmax,
    Activation.TANH: np.tanh,
}
