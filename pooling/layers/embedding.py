"""Tables of vectors, looked up by id."""

import paddle
from paddle.nn import functional

from pooling.layers.layer import WeightedLayer


class Embedding(WeightedLayer):
    """ids, int64 [T] -> rows of the table [T, width]."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = self.new_parameter(rows, width)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        return functional.embedding(ids, self.weight)
