"""From the vectors of tokens to the rows of a result, and from rows to its numbers."""

from collections.abc import Sequence

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.packed import PackedBatch
from pooling.pooler_config import PoolerConfig, PoolingType
from pooling.precision import as_type
from pooling.tensors import tensor_of

Rows = NDArray[np.float32]


class Pooler:
    """Takes from the hidden states of a packed batch the rows of each sequence's result."""

    def __init__(self, config: PoolerConfig) -> None:
        self.config = config

    def counts(self, batch: PackedBatch, kinds: Sequence[PoolingType] | None = None) -> NDArray[np.int64]:
        """How many rows each sequence gets, int64 [S]: its tokens for ALL, its steps for STEP, else 1.

        Args:
            batch: the sequences.
            kinds: how each is pooled; None means all as the config says.
        """
        counts = np.ones_like(batch.lengths)
        for kind in self._different(kinds):
            if kind is PoolingType.ALL:
                found = batch.lengths
            elif kind is PoolingType.STEP:
                found = np.add.reduceat(self._steps(batch).astype(np.int64), batch.cu_seqlens[:-1])
            else:
                continue
            counts = found if kinds is None else np.where([each is kind for each in kinds], found, counts)
        return counts

    def __call__(
        self, hidden: paddle.Tensor, batch: PackedBatch, kinds: Sequence[PoolingType] | None = None
    ) -> paddle.Tensor:
        """hidden, float32 [T, hidden size] -> float32 [sum of `counts`, hidden size], in the order of sequences."""
        different = self._different(kinds)
        if kinds is not None and len(different) > 1:
            return self._mixed(hidden, batch, kinds)
        (kind,) = different
        if kind is PoolingType.ALL:
            return hidden
        if kind is PoolingType.CLS:
            return paddle.gather(hidden, tensor_of(batch.cu_seqlens[:-1]))
        if kind is PoolingType.LAST:
            return paddle.gather(hidden, tensor_of(batch.cu_seqlens[1:] - 1))
        if kind is PoolingType.STEP:
            return paddle.gather(hidden, tensor_of(np.flatnonzero(self._steps(batch))))
        return _means(hidden, batch)

    def _mixed(self, hidden: paddle.Tensor, batch: PackedBatch, kinds: Sequence[PoolingType]) -> paddle.Tensor:
        """The rows of sequences that are pooled each in its way: all are among the hidden states and the means."""
        tokens = int(batch.cu_seqlens[-1])
        steps = self._steps(batch)
        taken = []
        for number, kind in enumerate(kinds):
            begin, end = int(batch.cu_seqlens[number]), int(batch.cu_seqlens[number + 1])
            if kind is PoolingType.ALL:
                taken.append(np.arange(begin, end))
            elif kind is PoolingType.STEP:
                taken.append(begin + np.flatnonzero(steps[begin:end]))
            else:
                places = {PoolingType.CLS: begin, PoolingType.LAST: end - 1, PoolingType.MEAN: tokens + number}
                taken.append(np.array([places[kind]]))
        rows = paddle.concat([hidden, _means(hidden, batch)]) if PoolingType.MEAN in kinds else hidden
        return paddle.gather(rows, tensor_of(np.concatenate(taken)))

    def _different(self, kinds: Sequence[PoolingType] | None) -> set[PoolingType]:
        return {self.config.pooling_type} if kinds is None else set(kinds)

    def _steps(self, batch: PackedBatch) -> NDArray[np.bool_]:
        return np.asarray(batch.token_ids == self.config.step_tag_id)


def _means(hidden: paddle.Tensor, batch: PackedBatch) -> paddle.Tensor:
    """The mean of each sequence's hidden states [S, hidden size]."""
    owner = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
    mean = paddle.geometric.segment_mean(as_type(hidden, paddle.float32), tensor_of(owner))
    return as_type(mean, hidden.dtype)
