"""From the vectors of tokens to one vector a sequence."""

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.config import PoolingType
from pooling.errors import CheckpointError
from pooling.packed import PackedBatch

# As torch.nn.functional.normalize, which Sentence Transformers uses: a vector of zeros stays one.
SMALLEST_NORM = np.float32(1e-12)


class Pooler:
    """Takes from the hidden states of a packed batch the one vector of each sequence."""

    def __init__(self, pooling_type: PoolingType) -> None:
        """Raises CheckpointError for a pooling type that gives no single vector, or is not supported yet."""
        if pooling_type not in (PoolingType.MEAN, PoolingType.CLS, PoolingType.LAST):
            raise CheckpointError(f"The pooling type {pooling_type} is not supported yet: use MEAN, CLS or LAST.")
        self.pooling_type = pooling_type

    def __call__(self, hidden: paddle.Tensor, batch: PackedBatch) -> paddle.Tensor:
        """hidden, float32 [T, hidden size] -> float32 [S, hidden size]."""
        if self.pooling_type is PoolingType.CLS:
            return paddle.gather(hidden, paddle.to_tensor(batch.cu_seqlens[:-1]))
        if self.pooling_type is PoolingType.LAST:
            return paddle.gather(hidden, paddle.to_tensor(batch.cu_seqlens[1:] - 1))
        owner = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
        return paddle.geometric.segment_mean(hidden, paddle.to_tensor(owner))


def finished_vector(pooled: NDArray[np.float32], dimensions: int | None, normalize: bool) -> NDArray[np.float32]:
    """The result of a sequence: the pooled vector cut to its first `dimensions`, and only then brought to length 1.

    Cutting before normalising is how Matryoshka embeddings are meant to be shortened (Kusupati et al. 2022).

    Args:
        pooled: float32 [hidden size].
        dimensions: how many numbers to keep; None keeps all.
        normalize: whether the result has length 1.
    """
    vector = pooled[:dimensions]
    if normalize:
        vector = vector / np.maximum(np.linalg.norm(vector), SMALLEST_NORM)
    return np.ascontiguousarray(vector, dtype="<f4")
