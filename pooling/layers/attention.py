"""Attention over packed sequences.

Tokens lie end to end, but a batched matrix product needs sequences of one length. So attention, and nothing else, sees
padding. Getting there and back takes one `gather_nd` each way: a packed [T, heads x head_dim] tensor is read as rows of
head_dim, T x heads of them, and index tensors made once a batch say which row lies where. That pads, splits q, k and v
and moves the heads to the front in one pass. With `split`, `reshape` and `transpose` instead, an eager forward takes
twice as long (docs/decisions/0002-the-form-of-the-engine.md).
"""

from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.nn import functional

from pooling.layers.layer import Layer
from pooling.packed import PackedBatch

# Large enough that the softmax of a padded place is exactly 0, small enough to stay finite in float32.
MASKED = np.float32(-1e9)


class AttentionIndex(NamedTuple):
    """Where the rows of a packed tensor lie in attention's padded order, for S sequences of at most L tokens.

    Attributes:
        query, key, value: rows of the merged qkv tensor, int64 [S x heads, L, 1].
        token: rows of the attended tensor, int64 [T, heads, 1].
        mask: added to the scores, 0 or MASKED, float32 [S x heads, 1, L]; None where no place is padded.
    """

    query: paddle.Tensor
    key: paddle.Tensor
    value: paddle.Tensor
    token: paddle.Tensor
    mask: paddle.Tensor | None


def attention_index(batch: PackedBatch, heads: int, always_masked: bool) -> AttentionIndex:
    """The index tensors of a batch for merged qkv rows in the order: token, then q, k or v, then head."""
    count, length = batch.grid.shape
    head = np.arange(heads, dtype=np.int64)
    query = batch.grid[:, None, :] * (3 * heads) + head[:, None]
    query = query.reshape(count * heads, length, 1)
    sequence, place = np.divmod(batch.places, length)
    token = ((sequence[:, None] * heads + head) * length + place[:, None])[..., None]
    masked = always_masked or batch.padded_places > 0
    return AttentionIndex(
        query=paddle.to_tensor(query),
        key=paddle.to_tensor(query + heads),
        value=paddle.to_tensor(query + 2 * heads),
        token=paddle.to_tensor(token),
        mask=paddle.to_tensor(_mask(batch, heads)) if masked else None,
    )


def _mask(batch: PackedBatch, heads: int) -> NDArray[np.float32]:
    outside = np.arange(batch.grid.shape[1]) >= batch.lengths[:, None]
    return np.repeat(np.where(outside, MASKED, np.float32(0.0)), heads, axis=0)[:, None, :]


class Attention(Layer):
    """Every token attends to all tokens of its own sequence: qkv [T, 3 x heads x head_dim] -> [T, heads x head_dim]."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim

    def forward(self, qkv: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        rows = qkv.reshape([-1, self.head_dim])
        query, key, value = (paddle.gather_nd(rows, where) for where in (index.query, index.key, index.value))
        scores = paddle.matmul(query, key, transpose_y=True)
        if index.mask is not None:
            scores = scores + index.mask
        attended = paddle.matmul(functional.softmax(scores), value).reshape([-1, self.head_dim])
        return paddle.gather_nd(attended, index.token).reshape([-1, self.heads * self.head_dim])
