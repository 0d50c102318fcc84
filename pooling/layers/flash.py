"""Paddle's variable-length flash attention (Dao 2023), on a GPU: attention over packed tokens without padding.

Not run on a GPU by its authors yet: their machines have none. The tests replace the operator by a plain computation,
which holds the arguments to what Paddle's documentation says of them, and no more.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import paddle
from paddle.nn.functional.flash_attention import flash_attn_unpadded

from pooling.packed import PackedBatch
from pooling.tensors import tensor_of

if TYPE_CHECKING:
    from pooling.layers.attention import AttentionKind


class Packing(NamedTuple):
    """Where S sequences lie among the packed tokens.

    Attributes:
        cu_seqlens: where each begins, and the end of the last, int32 [S + 1].
        longest: tokens of the longest.
    """

    cu_seqlens: paddle.Tensor
    longest: int


def fits(kinds: Iterable["AttentionKind"], longest: int) -> bool:
    """Whether all these kinds of attention can take sequences of up to so many tokens in this way.

    The operator knows neither a window nor a bias; a window that is as long as the longest sequence is none.
    """
    return all(kind.buckets is None and (kind.reach is None or kind.reach >= longest - 1) for kind in kinds)


def packing(batch: PackedBatch) -> Packing:
    """Where a batch's sequences lie."""
    return Packing(tensor_of(batch.cu_seqlens.astype(np.int32)), int(batch.lengths.max()))


def attended(
    query: paddle.Tensor, key: paddle.Tensor, value: paddle.Tensor, packing: Packing, causal: bool
) -> paddle.Tensor:
    """Tokens attend to those of their own sequence.

    Args:
        query: [T, heads, head_dim], the scale of attention multiplied in already.
        key, value: [T, kv_heads, head_dim].
        packing: where the sequences lie.
        causal: whether a token sees none after it.

    Returns:
        [T, heads, head_dim].
    """
    places, longest = packing
    return flash_attn_unpadded(
        query, key, value, places, places, longest, longest, scale=1.0, causal=causal, training=False
    )[0]
