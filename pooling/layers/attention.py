"""Attention over packed sequences.

Tokens lie end to end, but a batched matrix product needs sequences of one length. So attention, and nothing else, sees
padding. Getting there and back takes one `gather_nd` each way: a packed [T, heads x head_dim] tensor is read as rows of
head_dim, T x heads of them, and index tensors made once a batch say which row lies where. That pads, splits q, k and v,
repeats the keys of grouped-query heads and moves the heads to the front in one pass. With `split`, `reshape` and
`transpose` instead, an eager forward takes twice as long (docs/decisions/0002-the-form-of-the-engine.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.nn import functional

from pooling.layers import flash
from pooling.layers.layer import Layer
from pooling.packed import PackedBatch
from pooling.parallel import group
from pooling.precision import as_type, current_precision
from pooling.rotary import Rotary
from pooling.tensors import tensor_of

# Large enough that the softmax of a masked place is exactly 0, small enough that two of them stay finite in float32.
MASKED = np.float32(-1e9)


# Sequences longer than this attend a block of queries at a time, so that memory grows with their length only.
LONGEST_AT_ONCE = 2048
QUERY_BLOCK = 512


@dataclass(frozen=True)
class DistanceBuckets:
    """Distances of two tokens sorted into buckets: near ones one by one, far ones by their logarithm (T5, MPNet).

    Attributes:
        count: of buckets, half of them for each direction.
        far: distances from here on share the last bucket.
    """

    count: int = 32
    far: int = 128

    def table(self, length: int) -> NDArray[np.int64]:
        """The bucket of each query and key, int64 [length, length]."""
        ahead = np.arange(length) - np.arange(length)[:, None]
        half = self.count // 2
        exact = half // 2
        distance = np.abs(ahead)
        with np.errstate(divide="ignore"):
            grown = np.log(distance.astype(np.float32) / exact) / np.float32(np.log(self.far / exact)) * (half - exact)
        far = np.minimum(exact + np.maximum(grown, 0).astype(np.int64), half - 1)
        buckets: NDArray[np.int64] = np.where(distance < exact, distance, far) + (ahead > 0) * half
        return buckets


@dataclass(frozen=True)
class AttentionKind:
    """How the layers of one kind attend.

    Attributes:
        causal: a token sees none after it.
        reach: a token sees none further away than this many places; None means all.
        rotary: how queries and keys are turned by their positions; None where positions are added elsewhere.
        buckets: into which the distances of tokens are sorted, where the model adds a bias by distance.
    """

    causal: bool = False
    reach: int | None = None
    rotary: Rotary | None = None
    buckets: DistanceBuckets | None = None

    @property
    def masked(self) -> bool:
        """Whether a mask over pairs of places is needed beside the one for padding."""
        return self.causal or self.reach is not None


@dataclass(frozen=True)
class AttentionPlan:
    """The heads of a model on this rank and the kinds of its layers, by name; every layer has the same heads.

    Attributes:
        heads: query heads.
        kv_heads: key and value heads, of which heads is a multiple.
        rotated: whether queries and keys leave the merged tensor before they are laid out (`rotate`).
        flash: whether the device has `layers.flash` for the type of activations.
    """

    heads: int
    kv_heads: int
    kinds: Mapping[str, AttentionKind] = field(default_factory=lambda: {"full": AttentionKind()})
    rotated: bool = False
    flash: bool = False

    @classmethod
    def of_rank(
        cls, heads: int, kv_heads: int, kinds: Mapping[str, AttentionKind], *, rotated: bool = False
    ) -> "AttentionPlan":
        """The plan of this rank, for a model with so many heads on all ranks together."""
        queries, keys = group().share_of_heads(heads, kv_heads)
        heads, kv_heads = queries.stop - queries.start, keys.stop - keys.start
        return cls(heads, kv_heads, kinds, rotated, flash=current_precision().activations != "float32")

    @property
    def padding_masked(self) -> bool:
        """Whether padding needs a mask: behind a causal mask no token sees the padding, which comes last."""
        return not all(kind.causal for kind in self.kinds.values())


class KindIndex(NamedTuple):
    """What one kind of layer needs.

    Attributes:
        mask: added to the scores, 0 or MASKED, float32 [1, L, L]; None where no place is hidden, and beyond
            LONGEST_AT_ONCE, where it is made for each block.
        cosine, sine: float32 [T, 1, head_dim / 2]; None without a rotary embedding.
        buckets: of the distances, int64 [L, L]; None without a bias by distance.
    """

    mask: paddle.Tensor | None
    cosine: paddle.Tensor | None
    sine: paddle.Tensor | None
    buckets: paddle.Tensor | None


class AttentionIndex(NamedTuple):
    """Where the rows of a packed tensor lie in attention's padded order, for S sequences of at most L tokens.

    Attributes:
        query, key: rows of the merged qkv tensor (or of the rotated qk one), int64 [S x heads, L, 1].
        value: rows of the merged qkv tensor, int64 [S x heads, L, 1].
        token: rows of the attended tensor, int64 [T, heads, 1].
        padding: added to the scores, 0 or MASKED, float32 [S x heads, 1, L]; None where no place is padded.
        kinds: what each kind of layer needs beside, in the order of the plan.
        packing: where the sequences lie, if attention takes them packed; the tensors above are then None.
        bias: added to the scores of each head, float32 [heads, L, L]; a model that has one puts it here.
    """

    query: paddle.Tensor | None
    key: paddle.Tensor | None
    value: paddle.Tensor | None
    token: paddle.Tensor | None
    padding: paddle.Tensor | None
    kinds: Mapping[str, KindIndex]
    packing: flash.Packing | None = None
    bias: paddle.Tensor | None = None


def attention_index(batch: PackedBatch, plan: AttentionPlan, always_masked: bool) -> AttentionIndex:
    """The index tensors of a batch, for merged rows in the order: token, then q, k or v, then head.

    Args:
        always_masked: make the padding mask also where nothing is padded, for a program that always adds it.
    """
    count, length = batch.grid.shape
    if plan.flash and flash.fits(plan.kinds.values(), length):
        kinds = {name: _kind_index(batch, kind, length, masked=False) for name, kind in plan.kinds.items()}
        return AttentionIndex(None, None, None, None, None, kinds, flash.packing(batch))
    heads, kv_heads = plan.heads, plan.kv_heads
    head = np.arange(heads, dtype=np.int64)
    kv_head = head // (heads // kv_heads)
    merged = heads + 2 * kv_heads
    looked_up = heads + kv_heads if plan.rotated else merged

    def rows(stride: int, places: NDArray[np.int64]) -> paddle.Tensor:
        laid_out = batch.grid[:, None, :] * stride + places[:, None]
        return tensor_of(laid_out.reshape(count * heads, length, 1))

    sequence, place = np.divmod(batch.places, length)
    token = ((sequence[:, None] * heads + head) * length + place[:, None])[..., None]
    masked = plan.padding_masked and (always_masked or batch.padded_places > 0)
    return AttentionIndex(
        query=rows(looked_up, head),
        key=rows(looked_up, heads + kv_head),
        value=rows(merged, heads + kv_heads + kv_head),
        token=tensor_of(token),
        padding=tensor_of(_padding_mask(batch, heads)) if masked else None,
        kinds={name: _kind_index(batch, kind, length) for name, kind in plan.kinds.items()},
    )


def _padding_mask(batch: PackedBatch, heads: int) -> NDArray[np.float32]:
    outside = np.arange(batch.grid.shape[1]) >= batch.lengths[:, None]
    return np.repeat(np.where(outside, MASKED, np.float32(0.0)), heads, axis=0)[:, None, :]


def _kind_index(batch: PackedBatch, kind: AttentionKind, length: int, *, masked: bool = True) -> KindIndex:
    cosine = sine = mask = buckets = None
    if kind.rotary is not None:
        tables = kind.rotary.tables(batch.positions, batch.lengths, batch.axes)
        cosine, sine = (tensor_of(table[:, None, :]) for table in tables)
    if masked and kind.masked and length <= LONGEST_AT_ONCE:
        mask = tensor_of(_kind_mask(kind, np.arange(length), np.arange(length))[None])
    if kind.buckets is not None:
        buckets = tensor_of(kind.buckets.table(length))
    return KindIndex(mask, cosine, sine, buckets)


def _kind_mask(kind: AttentionKind, queries: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """What is added to the scores of queries and keys at these places, float32 [queries, keys]."""
    distance = queries[:, None] - keys
    hidden = (distance < 0) if kind.causal else np.zeros_like(distance, dtype=bool)
    if kind.reach is not None:
        hidden |= np.abs(distance) > kind.reach
    return np.where(hidden, MASKED, np.float32(0.0))


def flattened(index: AttentionIndex) -> list[paddle.Tensor]:
    """The tensors of an index in a fixed order, without those that are None: what a compiled program takes."""
    tensors = [index.query, index.key, index.value, index.token, index.padding]
    for kind in index.kinds.values():
        tensors += kind
    return [tensor for tensor in tensors if tensor is not None]


def unflattened(tensors: Sequence[paddle.Tensor], plan: AttentionPlan) -> AttentionIndex:
    """The index that `flattened` took apart; one made with `always_masked`."""
    rest = iter(tensors)
    query, key, value, token = (next(rest) for _ in range(4))
    padding = next(rest) if plan.padding_masked else None
    kinds = {}
    for name, kind in plan.kinds.items():
        mask = next(rest) if kind.masked else None
        cosine, sine = (next(rest), next(rest)) if kind.rotary else (None, None)
        buckets = next(rest) if kind.buckets else None
        kinds[name] = KindIndex(mask, cosine, sine, buckets)
    return AttentionIndex(query, key, value, token, padding, kinds)


def flat_signature(plan: AttentionPlan, prefix: str = "") -> list[paddle.static.InputSpec]:
    """The shapes and types of what `flattened` gives, for compiling; every size is free.

    Args:
        prefix: of their names, where a program takes more than one index.
    """

    def spec(shape: list[int | None], kind: str, name: str) -> paddle.static.InputSpec:
        return paddle.static.InputSpec(shape, kind, prefix + name)

    signature = [spec([None, None, 1], "int64", name) for name in ("query", "key", "value")]
    signature.append(spec([None, plan.heads, 1], "int64", "token"))
    if plan.padding_masked:
        signature.append(spec([None, 1, None], "float32", "padding"))
    for name, kind in plan.kinds.items():
        if kind.masked:
            signature.append(spec([1, None, None], "float32", f"{name}_mask"))
        if kind.rotary:
            half = len(kind.rotary.inverse_frequencies)
            signature += [spec([None, 1, half], "float32", f"{name}_{part}") for part in ("cosine", "sine")]
        if kind.buckets:
            signature.append(spec([None, None], "int64", f"{name}_buckets"))
    return signature


class Attention(Layer):
    """Tokens attend to those of their own sequence: qkv [T, (heads + 2 kv_heads) x head_dim] -> [T, heads x head_dim].

    Args:
        plan: the model's heads and kinds.
        kind: which kind this layer is.
        head_dim: dimensions of a head.
        head_norm: applied to each query and key head before the rotation, [T, heads + kv_heads, head_dim] -> the same.
    """

    def __init__(self, plan: AttentionPlan, kind: str, head_dim: int, head_norm: Layer | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.kind = kind
        self.head_dim = head_dim
        self.head_norm = head_norm

    def forward(self, qkv: paddle.Tensor, index: AttentionIndex) -> paddle.Tensor:
        rows = qkv.reshape([-1, self.head_dim])
        turned = self._turned(qkv, index.kinds[self.kind]) if self.plan.rotated else rows
        if index.packing is not None:
            return self._attended_packed(turned, qkv, index.packing)
        query, key = paddle.gather_nd(turned, index.query), paddle.gather_nd(turned, index.key)
        value = paddle.gather_nd(rows, index.value)
        if paddle.in_dynamic_mode() and query.shape[1] > LONGEST_AT_ONCE:
            attended = self._attended_in_blocks(query, key, value, index.bias)
        else:
            # Scores of 16 bits are too coarse to be added up.
            scores = as_type(paddle.matmul(query, key, transpose_y=True), paddle.float32)
            for mask in (index.padding, index.kinds[self.kind].mask):
                if mask is not None:
                    scores = scores + mask
            if index.bias is not None:
                length = paddle.shape(scores)[2]  # known to a compiled program only while it runs
                scores = (scores.reshape([-1, self.plan.heads, length, length]) + index.bias).flatten(0, 1)
            attended = paddle.matmul(as_type(functional.softmax(scores), value.dtype), value)
        attended = paddle.gather_nd(attended.reshape([-1, self.head_dim]), index.token)
        return attended.reshape([-1, self.plan.heads * self.head_dim])

    def _attended_in_blocks(
        self, query: paddle.Tensor, key: paddle.Tensor, value: paddle.Tensor, bias: paddle.Tensor | None
    ) -> paddle.Tensor:
        """Attention of one long sequence, [heads, L, head_dim] each: a block of queries with the keys it sees."""
        kind, length = self.plan.kinds[self.kind], query.shape[1]
        blocks = []
        for begin in range(0, length, QUERY_BLOCK):
            end = min(begin + QUERY_BLOCK, length)
            first = 0 if kind.reach is None else max(0, begin - kind.reach)
            last = end if kind.causal else length if kind.reach is None else min(length, end + kind.reach)
            scores = paddle.matmul(query[:, begin:end], key[:, first:last], transpose_y=True)
            scores = as_type(scores, paddle.float32)
            if kind.masked:
                scores = scores + tensor_of(_kind_mask(kind, np.arange(begin, end), np.arange(first, last)))
            if bias is not None:
                scores = scores + bias[:, begin:end, first:last]
            weights = as_type(functional.softmax(scores), value.dtype)
            blocks.append(paddle.matmul(weights, value[:, first:last]))
        return paddle.concat(blocks, axis=1)

    def _attended_packed(self, turned: paddle.Tensor, qkv: paddle.Tensor, packing: flash.Packing) -> paddle.Tensor:
        """Attention over the packed tokens as they lie: no padding, and no row of scores in memory."""
        heads, kv_heads = self.plan.heads, self.plan.kv_heads
        keys_end = heads + kv_heads
        merged = qkv.reshape([-1, keys_end + kv_heads, self.head_dim])
        looked_up = turned.reshape([-1, keys_end, self.head_dim]) if self.plan.rotated else merged
        query, key, value = looked_up[:, :heads], looked_up[:, heads:keys_end], merged[:, keys_end:]
        attended = flash.attended(query, key, value, packing, self.plan.kinds[self.kind].causal)
        return attended.reshape([-1, heads * self.head_dim])

    def _turned(self, qkv: paddle.Tensor, kind: KindIndex) -> paddle.Tensor:
        """Rows of queries and keys, normalised and rotated: [T x (heads + kv_heads), head_dim]."""
        count = self.plan.heads + self.plan.kv_heads
        heads = qkv[:, : count * self.head_dim].reshape([-1, count, self.head_dim])
        if self.head_norm is not None:
            heads = self.head_norm(heads)
        first, second = heads[..., : self.head_dim // 2], heads[..., self.head_dim // 2 :]
        turned = [first * kind.cosine - second * kind.sine, second * kind.cosine + first * kind.sine]
        return as_type(paddle.concat(turned, axis=-1), qkv.dtype).reshape([-1, self.head_dim])
