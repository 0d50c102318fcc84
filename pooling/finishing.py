"""From the pooled rows of a result to its numbers, in numpy: the worker and the api compute the same."""

import numpy as np
from numpy.typing import NDArray

from pooling.activations import activated
from pooling.pooler_config import Activation

# As torch.nn.functional.normalize, which Sentence Transformers uses: a vector of zeros stays one.
SMALLEST_NORM = np.float32(1e-12)

Rows = NDArray[np.float32]


def finished_embedding(rows: Rows, dimensions: int | None, normalize: bool) -> Rows:
    """Each row cut to its first `dimensions`, and only then brought to length 1.

    Cutting before normalising is how Matryoshka embeddings are meant to be shortened (Kusupati et al. 2022).

    Args:
        rows: float32 [rows, width].
        dimensions: how many numbers of a row to keep; None keeps all.
        normalize: whether each row has length 1.

    Returns:
        Little-endian float32 [rows, dimensions].
    """
    rows = rows[:, :dimensions]
    if normalize:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), SMALLEST_NORM)
    return np.ascontiguousarray(rows, dtype="<f4")


def finished_scores(logits: Rows, activation: Activation, good: int | None) -> Rows:
    """The scores of each row after the activation.

    Where two logits speak for and against the same thing, one number says it all: the probability of the good one
    after softmax, and without an activation the difference of the two, of which that is the sigmoid.

    Args:
        logits: float32 [rows, labels].
        activation: applied to each row.
        good: which of two logits speaks for; None where every label counts.

    Returns:
        Little-endian float32 [rows, labels], or [rows, 1] with `good`.
    """
    if good is not None:
        difference = logits[:, good : good + 1] - logits[:, 1 - good : 2 - good]
        activation = Activation.SIGMOID if activation is Activation.SOFTMAX else activation
        logits = difference
    return np.ascontiguousarray(activated(logits, activation), dtype="<f4")
