"""Forwards of few tokens as CUDA graphs: one launch in place of a hundred, which would take longer than the kernels.

A graph does the same with the same memory again and again. So there is one for each of some sizes, with tensors of its
own that a batch is copied into: filled up to the size with tokens of a sequence that nobody reads, and with sequences
without tokens. Attention must take its sequences packed (`layers.flash`), for only then shapes depend on nothing else.

Not run on a GPU by its authors, whose machines have none: the tests hold it to the results of a plain forward, with a
recorder that runs the function again where a graph would be replayed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.errors import DeviceError
from pooling.layers import flash
from pooling.layers.attention import AttentionIndex, AttentionPlan, KindIndex
from pooling.packed import PackedBatch
from pooling.tensors import tensor_of

SIZES = (16, 32, 64, 128, 256, 512)
"""Tokens of the graphs. With more the kernels take longer than their launches."""

SEQUENCES = 32
"""Of each graph, at most, without the one that fills it up."""

Forward = Callable[[paddle.Tensor, paddle.Tensor, paddle.Tensor, AttentionIndex], paddle.Tensor]
"""A model: token ids, positions and segments [T] and an index -> hidden states [T, hidden size]."""

Replay = Callable[[], None]

Recorder = Callable[[Callable[[], paddle.Tensor]], tuple[paddle.Tensor, Replay]]
"""Records what a function does on the device: its result, and how to do the same again, into the same result."""


def recorded(function: Callable[[], paddle.Tensor]) -> tuple[paddle.Tensor, Replay]:
    """A function as a CUDA graph on the device in use.

    Raises:
        DeviceError: it cannot be recorded.
    """
    from paddle.device.cuda.graphs import CUDAGraph

    function()  # what is loaded, chosen or allocated once is not part of the graph
    try:
        paddle.device.synchronize()
        graph = CUDAGraph(paddle.framework._current_expected_place_())
        graph.capture_begin()
        result = function()
        graph.capture_end()
    except Exception as error:  # Paddle raises many kinds
        raise DeviceError(f"A forward cannot be recorded as a CUDA graph ({error}): use --enforce-eager.") from error
    return result, graph.replay


@dataclass(frozen=True)
class _Graph:
    """One size: the tensors that it reads, the one that it writes, and how to run it."""

    inputs: list[paddle.Tensor]
    hidden: paddle.Tensor
    replay: Replay


class Graphs:
    """The graphs of a model, each recorded when a batch of its size comes first. Use it from one thread.

    Args:
        forward: the model.
        plan: how it attends.
        recorder: what records it; of CUDA unless told.
    """

    def __init__(self, forward: Forward, plan: AttentionPlan, recorder: Recorder = recorded) -> None:
        self._forward = forward
        self._plan = plan
        self._recorder = recorder
        self._graphs: dict[int, _Graph] = {}

    def warm_up(self) -> None:
        """Records a graph of every size, so that no caller waits for it."""
        for tokens in SIZES:
            count = min(SEQUENCES, tokens)
            batch = PackedBatch.of([np.zeros(tokens // count, dtype=np.int32)] * count)
            if size := self.size(batch):
                self.hidden(batch, size)

    def size(self, batch: PackedBatch) -> int | None:
        """Tokens of the graph that a batch fits into; None where it fits into none."""
        if batch.axes is not None or len(batch.lengths) > SEQUENCES:
            return None
        size = next((size for size in SIZES if size >= batch.token_ids.size), None)
        return size if size and self._plan.flash and flash.fits(self._plan.kinds.values(), size) else None

    def hidden(self, batch: PackedBatch, size: int) -> paddle.Tensor:
        """The hidden states of a batch [T, hidden size], which the next batch of the size will overwrite."""
        arrays = self._arrays(filled(batch, size))
        if size not in self._graphs:
            self._graphs[size] = self._record([tensor_of(array) for array in arrays], size)
        graph = self._graphs[size]
        for held, array in zip(graph.inputs, arrays, strict=True):
            held.copy_(tensor_of(array), False)
        graph.replay()
        return graph.hidden[: batch.token_ids.size]

    def _arrays(self, batch: PackedBatch) -> list[NDArray[np.generic]]:
        """All that a forward reads of a batch, in a fixed order."""
        arrays: list[NDArray[np.generic]] = [batch.token_ids, batch.positions, batch.segments]
        arrays.append(batch.cu_seqlens.astype(np.int32))
        for kind in self._plan.kinds.values():
            if kind.rotary is not None:
                arrays += [table[:, None, :] for table in kind.rotary.tables(batch.positions, batch.lengths, None)]
        return arrays

    def _record(self, inputs: list[paddle.Tensor], size: int) -> _Graph:
        ids, positions, segments, cu_seqlens, *tables = inputs
        kinds, rest = {}, iter(tables)
        for name, kind in self._plan.kinds.items():
            cosine, sine = (next(rest), next(rest)) if kind.rotary else (None, None)
            kinds[name] = KindIndex(None, cosine, sine, None)
        # The longest sequence that the graph will ever meet decides how many blocks its kernels have.
        packing = flash.Packing(cu_seqlens, size)
        index = AttentionIndex(None, None, None, None, None, kinds, packing)
        hidden, replay = self._recorder(lambda: self._forward(ids, positions, segments, index))
        return _Graph(inputs, hidden, replay)


def filled(batch: PackedBatch, size: int) -> PackedBatch:
    """A batch with a sequence more, so that it has so many tokens, and as many empty ones as a graph has room for."""
    more, empty = size - batch.token_ids.size, SEQUENCES - len(batch.lengths)
    nothing = np.zeros(more, dtype=np.int64)
    ends = np.full(1 + empty, size, dtype=np.int64)
    return PackedBatch(
        token_ids=np.concatenate([batch.token_ids, nothing]),
        positions=np.concatenate([batch.positions, nothing]),
        segments=np.concatenate([batch.segments, nothing]),
        cu_seqlens=np.concatenate([batch.cu_seqlens, ends]),
        lengths=np.concatenate([batch.lengths, [more], np.zeros(empty, dtype=np.int64)]),
        grid=batch.grid,
        places=batch.places,
    )
