"""Linear layers, named for what tensor parallelism divides; the merged ones compute several in one matrix product."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.layers.layer import Stored, WeightedLayer, slabs
from pooling.parallel import group, summed
from pooling.precision import current_precision, product, write
from pooling.quantization import product_of_int8, quantized


class Part(NamedTuple):
    """Some of a linear layer's outputs: rows of the tensor in the checkpoint, and their place in this rank's weight.

    Attributes:
        name: what the checkpoint calls the layer that they belong to; "" for a layer that is not merged.
        total: the outputs of that layer on all ranks together.
        own: which of them are this rank's.
        begin: where those begin in this rank's weight.
    """

    name: str
    total: int
    own: slice
    begin: int


class PartialLinear(WeightedLayer):
    """x [.., inputs] -> x @ weight.T + bias [.., outputs], of which this rank may hold a part.

    The weight [outputs, inputs] lies as checkpoints store it, and x meets its transpose (`precision.product`). With
    `--quantization int8` it holds whole numbers of a byte, rounded while loading.

    Attributes:
        inputs: of all ranks together.
        parts: of its outputs, side by side.
        taken: which of the inputs are this rank's; None means all.
        multiple: rows of the stored tensor that must be read together, for `arranged`.
        within: where the parts begin in the stored tensor and how many rows it has, if it holds other layers' too.
        steps: with int8, what a 1 in the weights of each output stands for, float32 [outputs]; no checkpoint has it.
    """

    def __init__(
        self,
        inputs: int,
        parts: Sequence[Part],
        *,
        bias: bool,
        taken: slice | None = None,
        multiple: int = 1,
        within: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.within = within
        self.inputs = inputs
        self.parts = list(parts)
        self.taken = taken
        self.multiple = multiple
        self.precision = current_precision()
        outputs = sum(part.own.stop - part.own.start for part in parts)
        columns = inputs if taken is None else taken.stop - taken.start
        if self.precision.int8:
            self.weight = self.new_bytes(outputs, columns)
            self.register_buffer("steps", paddle.ones([outputs]), persistable=False)
        else:
            self.weight = self.new_matrix(outputs, columns)
        self.bias = self.new_vector(outputs) if bias else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.multiplied(x, self.bias)

    def multiplied(self, x: paddle.Tensor, bias: paddle.Tensor | None, *, narrow: bool = False) -> paddle.Tensor:
        """x [.., inputs] times the transpose of the weight, plus bias."""
        if self.precision.int8:
            return product_of_int8(x, self.weight, self.steps, bias)
        return product(x, self.weight, bias, self.precision, narrow=narrow)

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        rows = sum(part.total for part in self.parts if shard in (None, part.name))
        rows = self.within[1] if self.within else rows
        return (rows,) if parameter == "bias" else (rows, self.inputs)

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        target, first = getattr(self, parameter), self.within[0] if self.within else 0
        for part in self.parts:
            if shard not in (None, part.name):
                continue
            begin, end = first + part.own.start, first + part.own.stop
            for rows in slabs(begin, end, 4 * self.inputs, self.multiple):
                columns = None if parameter == "bias" else self.taken
                values = self.arranged(stored.read(rows, columns), part.name)
                place = slice(part.begin + rows.start - begin, part.begin + rows.stop - begin)
                self._write(target, place, values)
            first += part.total

    def _write(self, target: paddle.Tensor, rows: slice, values: NDArray[np.float32]) -> None:
        if target is not self.weight or not self.precision.int8:
            write(target, (rows,), values)
            return
        # A slab has whole rows, and a row all that decides its step.
        numbers, steps = quantized(values)
        write(target, (rows,), numbers)
        write(self.steps, (rows,), steps)

    def arranged(self, stored: NDArray[np.float32], part: str) -> NDArray[np.float32]:
        """Stored rows [rows, ..] of a part as this layer wants them; the merged layers of attention change some."""
        return stored


class Linear(PartialLinear):
    """x [.., inputs] -> x @ weight.T + bias [.., outputs], the whole of it on every rank."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, [Part("", outputs, slice(0, outputs), 0)], bias=bias)


class ColumnParallelLinear(PartialLinear):
    """x [.., inputs] -> this rank's part of the outputs [.., outputs / ranks]."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, within: tuple[int, int] | None = None) -> None:
        own = group().share(outputs, "outputs of a layer")
        super().__init__(inputs, [Part("", outputs, own, 0)], bias=bias, within=within)

    def narrow(self, x: paddle.Tensor) -> paddle.Tensor:
        """What `forward` gives, in 16 bits where the products are: for what is multiplied again before it is added."""
        return self.multiplied(x, self.bias, narrow=True)


class RowParallelLinear(PartialLinear):
    """This rank's part of x [.., inputs / ranks] -> x @ weight.T + bias [.., outputs], summed over all ranks.

    Args:
        reduce: whether the sum is made here; a mixture of experts makes one for all of its experts.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, reduce: bool = True) -> None:
        taken = group().share(inputs, "inputs of a layer") if group().size > 1 else None
        super().__init__(inputs, [Part("", outputs, slice(0, outputs), 0)], bias=bias, taken=taken)
        self.reduce = reduce and group().size > 1
        # Every rank holds the bias; where each adds to one sum it may count once only.
        self.adds_bias = self.reduce or group().rank == 0

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.reduce:
            return self.multiplied(x, self.bias if self.adds_bias else None)
        whole = summed(self.multiplied(x, None))
        return whole if self.bias is None else whole + self.bias


class QKVParallelLinear(PartialLinear):
    """x [T, hidden] -> this rank's queries, keys and values side by side [T, (heads + 2 kv_heads) x head_dim].

    The scale of attention is multiplied into the query weights while loading: no forward pays for it. Interleaved
    rotary embeddings (pairs of neighbours instead of halves) become plain ones by reordering the rows of queries and
    keys alike, which leaves their products as they are.

    Args:
        heads, kv_heads: of all ranks together.
        scale: multiplied into the queries; None means 1/sqrt(head_dim).
        interleaved: whether the checkpoint's rotary embedding turns neighbouring dimensions together.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        head_dim: int,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        interleaved: bool = False,
        stored_whole: bool = False,
    ) -> None:
        kv_heads = kv_heads or heads
        widths = {"query": heads * head_dim, "key": kv_heads * head_dim, "value": kv_heads * head_dim}
        queries, keys = group().share_of_heads(heads, kv_heads)
        owned = {
            name: slice(own.start * head_dim, own.stop * head_dim)
            for name, own in (("query", queries), ("key", keys), ("value", keys))
        }
        super().__init__(hidden, side_by_side(widths, owned), bias=bias, multiple=head_dim)
        self.shards = () if stored_whole else tuple(widths)
        self.head_dim = head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.interleaved = interleaved

    def arranged(self, stored: NDArray[np.float32], part: str) -> NDArray[np.float32]:
        if part == "value":
            return stored
        if self.interleaved:
            pairs = stored.reshape(-1, self.head_dim // 2, 2, *stored.shape[1:])
            stored = pairs.swapaxes(1, 2).reshape(stored.shape)
        return stored * np.float32(self.scale) if part == "query" else stored


def side_by_side(widths: Mapping[str, int], owned: Mapping[str, slice]) -> list[Part]:
    """The parts of a merged layer: the whole width of each, and which of it is this rank's."""
    parts: list[Part] = []
    begin = 0
    for name, own in owned.items():
        parts.append(Part(name, widths[name], own, begin))
        begin += own.stop - own.start
    return parts
