"""Tables of vectors, looked up by id."""

from collections.abc import Sequence

import paddle
from paddle.nn import functional

from pooling.layers.layer import Stored, WeightedLayer, slabs
from pooling.parallel import group, summed
from pooling.precision import as_type, current_precision, write


class Embedding(WeightedLayer):
    """ids, int64 [T] -> rows of the table [T, width], in the type of activations."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.activations = getattr(paddle, current_precision().activations)
        self.weight = self.new_matrix(rows, width)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        return as_type(functional.embedding(ids, self.weight), self.activations)


class VocabParallelEmbedding(Embedding):
    """An embedding of which each rank holds some rows; the sum over the ranks is the whole."""

    def __init__(self, rows: int, width: int) -> None:
        self.own = group().rows(rows)
        super().__init__(self.own.stop - self.own.start, width)
        self.total = rows

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        if self.total == self.own.stop - self.own.start:
            return super().forward(ids)
        here = paddle.logical_and(ids >= self.own.start, ids < self.own.stop)
        vectors = super().forward(paddle.where(here, ids - self.own.start, paddle.zeros_like(ids)))
        return summed(vectors * here.unsqueeze(-1).astype(vectors.dtype))

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        return (self.total, self.width)

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        for rows in slabs(self.own.start, self.own.stop, 4 * self.width):
            place = slice(rows.start - self.own.start, rows.stop - self.own.start)
            write(self.weight, (place,), stored.read(rows))


class HeadBias(Embedding):
    """ids -> a number for each of this rank's heads; the table in the checkpoint has those of all."""

    def __init__(self, rows: int, heads: int) -> None:
        self.own, _ = group().share_of_heads(heads, heads)
        super().__init__(rows, self.own.stop - self.own.start)
        self.total = heads

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        return (self.weight.shape[0], self.total)

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        rows = slice(0, self.weight.shape[0])
        write(self.weight, (rows,), stored.read(rows, self.own))
