"""The engine: a checkpoint in memory, and token ids in, vectors out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import paddle
from numpy.typing import NDArray

from pooling.config import ModelSpec
from pooling.device import select_device
from pooling.errors import InputError
from pooling.layers.attention import AttentionIndex, attention_index
from pooling.models import model_class
from pooling.models.interface import PoolingModel
from pooling.packed import PackedBatch, TokenIds, chunks_by_length
from pooling.pooler import Pooler, finished_vector
from pooling.weights import load_weights

# Tokens computed at once. Above, intermediate results fall out of the caches; below, a fixed cost of some 8 ms a chunk
# weighs more. docs/decisions/0002-the-form-of-the-engine.md has the figures.
CHUNK_TOKENS = 1024

# Up to this many tokens the model runs eagerly, above as a compiled program: starting a program costs more than a short
# forward saves, and each new shape costs it some milliseconds once.
EAGER_TOKENS = 128

WARM_UP_LENGTHS = (12, 48, 128, 256)

# Batches of mixed lengths computed after that: oneDNN keeps the last shapes it compiled, and a worker whose store of
# them is full when it reports ready holds no more memory an hour later.
WARM_UP_MIXED_BATCHES = 40

Forward = Callable[[paddle.Tensor, paddle.Tensor, AttentionIndex], paddle.Tensor]


@dataclass(frozen=True)
class PoolingInput:
    """One sequence to pool.

    Attributes:
        ids: token ids, int32 [n] with n from 1 to the model's max_model_len.
        dimensions: the length of the result, one of the spec's supported_dimensions; None means all.
        normalize: whether the result has length 1; None means as the checkpoint says.
    """

    ids: TokenIds
    dimensions: int | None = None
    normalize: bool | None = None


class PoolingEngine(Protocol):
    """What a worker needs of an engine, whatever computes behind it."""

    @property
    def spec(self) -> ModelSpec:
        """The model it holds, its pooling type decided."""

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Compute something of every size, so that the first requests are as quick as the later ones."""

    def forward(self, inputs: Sequence[PoolingInput]) -> list[NDArray[np.float32]]:
        """The vector of each input, float32 [dimensions], in the order of the inputs."""


class Engine:
    """A model on one device, in this process. Use it from one thread at a time."""

    def __init__(self, spec: ModelSpec, model: PoolingModel) -> None:
        pooling_type = spec.pooler.pooling_type or model.default_pooling_type
        self.spec = replace(spec, pooler=replace(spec.pooler, pooling_type=pooling_type))
        self._pooler = Pooler(pooling_type)
        self._model = model
        self._compiled = _compiled(model)

    @classmethod
    def load(cls, spec: ModelSpec, device: str = "cpu") -> Self:
        """Build the model and read its weights; call `device.prepare_process` first, or it will be slow.

        Raises:
            CheckpointError: the weights do not fit the configuration, or the model is of a kind not supported.
            DeviceError: there is no such device.
        """
        select_device(device)
        model = model_class(spec.architecture)(spec)
        model.eval()
        load_weights(model, spec.directory)
        return cls(spec, model)

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Compute something of every size, so that the first requests are as quick as the later ones."""
        for wanted in WARM_UP_LENGTHS:
            length = min(wanted, self.spec.max_model_len, max_num_batched_tokens)
            count = min(max_num_seqs, max(1, min(CHUNK_TOKENS, max_num_batched_tokens) // length))
            ids = np.zeros(length, dtype=np.int32)
            self.forward([PoolingInput(ids)])
            self.forward([PoolingInput(ids)] * count)
        self._warm_up_mixed(min(CHUNK_TOKENS, max_num_batched_tokens), max_num_seqs)

    def _warm_up_mixed(self, max_tokens: int, max_num_seqs: int) -> None:
        """Compute batches of sequences of every length together, from a single one's tokens to a whole chunk's."""
        generator = np.random.default_rng(0)
        longest = min(WARM_UP_LENGTHS[-1], self.spec.max_model_len, max_tokens)
        for wanted in np.linspace(longest, max_tokens, WARM_UP_MIXED_BATCHES):
            lengths = generator.integers(1, longest + 1, size=max_num_seqs)
            fitting = max(1, int(np.searchsorted(lengths.cumsum(), wanted, side="right")))
            self.forward([PoolingInput(np.zeros(length, dtype=np.int32)) for length in lengths[:fitting]])

    def forward(self, inputs: Sequence[PoolingInput]) -> list[NDArray[np.float32]]:
        """The vector of each input, little-endian float32 [dimensions], in the order of the inputs.

        Raises:
            InputError: a sequence is empty, too long or out of the vocabulary, or its dimensions are not supported.
        """
        for position, given in enumerate(inputs):
            self._check(position, given)
        vectors: dict[int, NDArray[np.float32]] = {}
        for chunk in chunks_by_length([len(given.ids) for given in inputs], CHUNK_TOKENS):
            pooled = self._pooled(PackedBatch.of([inputs[position].ids for position in chunk]))
            for row, position in enumerate(chunk):
                normalize = inputs[position].normalize
                vectors[position] = finished_vector(
                    pooled[row],
                    inputs[position].dimensions,
                    self.spec.pooler.normalize if normalize is None else normalize,
                )
        return [vectors[position] for position in range(len(inputs))]

    def _pooled(self, batch: PackedBatch) -> NDArray[np.float32]:
        """The pooled vectors of a chunk, float32 [S, hidden size]."""
        compiled = batch.token_ids.size > EAGER_TOKENS
        forward: Forward = self._compiled if compiled else self._model
        with paddle.no_grad():
            # A compiled program always adds a mask, so that there is only one program.
            index = attention_index(batch, self._model.heads, always_masked=compiled)
            hidden = forward(paddle.to_tensor(batch.token_ids), paddle.to_tensor(batch.positions), index)
            pooled: NDArray[np.float32] = self._pooler(hidden, batch).numpy()
        return pooled

    def _check(self, position: int, given: PoolingInput) -> None:
        length = len(given.ids)
        if not 1 <= length <= self.spec.max_model_len:
            raise InputError(
                f"Input {position} has {length} tokens, but this model takes 1 to {self.spec.max_model_len}: "
                "shorten or truncate it."
            )
        if int(given.ids.min()) < 0 or int(given.ids.max()) >= self.spec.vocab_size:
            raise InputError(
                f"Input {position} has token ids outside 0 to {self.spec.vocab_size - 1}: tokenize it with this "
                "model's tokenizer."
            )
        supported = self.spec.supported_dimensions
        if given.dimensions is not None and given.dimensions not in supported:
            choices = ", ".join(map(str, supported))
            raise InputError(
                f"Input {position} asks for {given.dimensions} dimensions: this model supports "
                f"{choices if len(supported) > 1 else f'only its own {choices}'}."
            )


def _compiled(model: PoolingModel) -> Forward:
    """The model as one program for inputs of any size; compiled at its first use, over the live parameters."""

    def flat(  # to_static knows lists and dicts, but forgets what a named tuple was
        token_ids: paddle.Tensor,
        positions: paddle.Tensor,
        query: paddle.Tensor,
        key: paddle.Tensor,
        value: paddle.Tensor,
        token: paddle.Tensor,
        mask: paddle.Tensor,
    ) -> paddle.Tensor:
        return model(token_ids, positions, AttentionIndex(query, key, value, token, mask))

    spec = paddle.static.InputSpec
    signature = [
        spec([None], "int64", "token_ids"),
        spec([None], "int64", "positions"),
        spec([None, None, 1], "int64", "query"),
        spec([None, None, 1], "int64", "key"),
        spec([None, None, 1], "int64", "value"),
        spec([None, model.heads, 1], "int64", "token"),
        spec([None, 1, None], "float32", "mask"),
    ]
    program = paddle.jit.to_static(flat, input_spec=signature, full_graph=True)
    return lambda token_ids, positions, index: program(token_ids, positions, *index)
