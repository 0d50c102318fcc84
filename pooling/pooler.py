"""From the vectors of tokens to the rows of a result, and from rows to its numbers."""

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.activations import activated
from pooling.packed import PackedBatch
from pooling.pooler_config import Activation, PoolerConfig, PoolingType
from pooling.precision import as_type

# As torch.nn.functional.normalize, which Sentence Transformers uses: a vector of zeros stays one.
SMALLEST_NORM = np.float32(1e-12)

Rows = NDArray[np.float32]


class Pooler:
    """Takes from the hidden states of a packed batch the rows of each sequence's result."""

    def __init__(self, config: PoolerConfig) -> None:
        self.config = config

    def counts(self, batch: PackedBatch) -> NDArray[np.int64]:
        """How many rows each sequence gets, int64 [S]: its tokens for ALL, its steps for STEP, else 1."""
        if self.config.pooling_type is PoolingType.ALL:
            return batch.lengths
        if self.config.pooling_type is PoolingType.STEP:
            return np.add.reduceat(self._steps(batch).astype(np.int64), batch.cu_seqlens[:-1])
        return np.ones_like(batch.lengths)

    def __call__(self, hidden: paddle.Tensor, batch: PackedBatch) -> paddle.Tensor:
        """hidden, float32 [T, hidden size] -> float32 [sum of `counts`, hidden size], in the order of sequences."""
        kind = self.config.pooling_type
        if kind is PoolingType.ALL:
            return hidden
        if kind is PoolingType.CLS:
            return paddle.gather(hidden, paddle.to_tensor(batch.cu_seqlens[:-1]))
        if kind is PoolingType.LAST:
            return paddle.gather(hidden, paddle.to_tensor(batch.cu_seqlens[1:] - 1))
        if kind is PoolingType.STEP:
            return paddle.gather(hidden, paddle.to_tensor(np.flatnonzero(self._steps(batch))))
        owner = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
        mean = paddle.geometric.segment_mean(as_type(hidden, paddle.float32), paddle.to_tensor(owner))
        return as_type(mean, hidden.dtype)

    def _steps(self, batch: PackedBatch) -> NDArray[np.bool_]:
        return np.asarray(batch.token_ids == self.config.step_tag_id)


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
