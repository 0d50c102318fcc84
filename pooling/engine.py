"""The engine: a checkpoint in memory, and token ids in, vectors out."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self

import numpy as np
import paddle

from pooling.architectures import Head
from pooling.compiled import as_program
from pooling.config import ModelSpec
from pooling.dense import DenseModule
from pooling.device import most_eager_tokens, multiplies_narrowly, processor_has_amx, select_device
from pooling.embedded_images import EmbeddedImages
from pooling.errors import InputError
from pooling.finishing import finished_embedding, finished_scores
from pooling.graphs import Forward, Graphs
from pooling.layers.attention import (
    LONGEST_AT_ONCE,
    AttentionIndex,
    attention_index,
    flat_signature,
    flattened,
    unflattened,
)
from pooling.models import model_class
from pooling.models.images import PlacedImages
from pooling.models.interface import PoolingModel
from pooling.overrides import refusal
from pooling.packed import PackedBatch, TokenIds, chunks_by_length
from pooling.parallel import group
from pooling.pooler import Pooler, Rows
from pooling.pooler_config import Activation, PoolingType
from pooling.precision import Precision, as_type, building, precision_on, unquantized
from pooling.started import Begun, Chunk, Finished, Started
from pooling.tensors import Arriving, tensor_of
from pooling.vision.processors import PreparedImage
from pooling.weights import load_weights

log = logging.getLogger(__name__)

# Tokens computed at once. Above, intermediate results fall out of the caches; below, a fixed cost of some 8 ms a chunk
# weighs more. docs/decisions/0002-the-form-of-the-engine.md has the figures.
CHUNK_TOKENS = 1024

# Tokens computed at once on a GPU, which has no such caches.
GPU_CHUNK_TOKENS = 16_384

# Up to this many tokens the model runs eagerly, above as a compiled program, which each new shape costs some
# milliseconds once.
EAGER_TOKENS = most_eager_tokens()

WARM_UP_LENGTHS = (12, 48, 128, 256)

# Batches of mixed lengths computed after that: oneDNN keeps the last shapes it compiled, and a worker whose store of
# them is full when it reports ready holds no more memory an hour later.
WARM_UP_MIXED_BATCHES = 40

# A large model on a CPU would be at it for minutes: it starts sooner, and grows a little while it serves.
WARM_UP_SECONDS = 15.0


@dataclass(frozen=True)
class PoolingInput:
    """One sequence to pool.

    Attributes:
        ids: token ids, int32 [n] with n from 1 to the model's max_model_len.
        second_from: the place where the second text of a pair begins; None for a single text.
        dimensions: the length of an embedding, one of the spec's supported_dimensions; None means the spec's own.
        normalize: whether an embedding has length 1; None means as the spec says.
        pooling_type: which rows become its result; None means as the spec says.
        activation: what is applied to its scores; None means as the spec says.
        images: in the order of their places among the ids, where the placeholder stands as often as an image has
            tokens.
    """

    ids: TokenIds
    second_from: int | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    pooling_type: PoolingType | None = None
    activation: Activation | None = None
    images: tuple[PreparedImage, ...] = ()


class PoolingEngine(Protocol):
    """What a worker needs of an engine, whatever computes behind it."""

    @property
    def spec(self) -> ModelSpec:
        """The model it holds, its pooling type decided."""

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Compute something of every size, so that the first requests are as quick as the later ones."""

    def start(self, inputs: Sequence[PoolingInput]) -> Started:
        """Has the device begin a forward, or computes it."""


class Followers(Protocol):
    """The other ranks of a group, which compute whatever the first does."""

    def following(self, inputs: Sequence[PoolingInput]) -> AbstractContextManager[None]:
        """While it lasts the others compute these inputs too; if it ends by an exception, so does the whole group."""


class Engine:
    """A model on one device, in this process. Use it from one thread at a time.

    Attributes:
        spec: the model.
        chunk_tokens: tokens computed at once.
        eager_tokens: up to so many at once are computed eagerly, more by the compiled program.
        images: what the vision tower has made of images, of models that have one.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model: PoolingModel,
        dense: Sequence[DenseModule] = (),
        precision: Precision | None = None,
        followers: Followers | None = None,
        *,
        enforce_eager: bool = False,
    ) -> None:
        self.spec = spec
        self._pooler = Pooler(spec.pooler)
        self._model = model
        self._dense = dense
        self._followers = followers
        self.images = EmbeddedImages(spec, model)
        precision = precision or Precision()
        on_cpu = paddle.get_device() == "cpu"
        self.chunk_tokens = CHUNK_TOKENS if on_cpu else GPU_CHUNK_TOKENS
        # A sum over ranks within a compiled program gives wrong numbers (Paddle 3.3.1, gloo).
        eager = enforce_eager or group().size > 1
        has_programs = on_cpu and not eager
        compiles = model.compiled and has_programs
        self._compiled = _compiled(model) if compiles else None
        has_graphs = model.compiled and not on_cpu and not eager
        self._graphs = Graphs(model, model.plan) if has_graphs else None
        narrowly = multiplies_narrowly()
        if narrowly and not compiles:
            log.warning("--float32-matmul-precision makes no difference: this model runs as no compiled program")
        elif compiles and not narrowly and precision.weights == "float32" and processor_has_amx():
            log.info("this processor has AMX: --float32-matmul-precision medium multiplies in bfloat16, much faster")
        # Only compiled programs multiply in bfloat16: the eager way widens every weight for each forward, and would
        # give the same text another vector than the compiled one.
        self.eager_tokens = 0 if precision.multiplies or narrowly else EAGER_TOKENS
        if has_programs and model.image_tower is not None:
            model.image_tower.compile(self.eager_tokens)

    @classmethod
    def load(
        cls, spec: ModelSpec, device: str = "cpu", followers: Followers | None = None, *, enforce_eager: bool = False
    ) -> Self:
        """Build the model and read its weights; call `device.prepare_process` first, or it will be slow.

        Args:
            spec: the model.
            device: "cpu", "gpu" or "gpu:N".
            followers: the other ranks, if this process is the first of a group (`parallel.join`).
            enforce_eager: run the model operator by operator, without compiled programs or CUDA graphs.

        Raises:
            CheckpointError: the weights do not fit the configuration, or the model is of a kind not supported.
            DeviceError: there is no such device.
            OptionError: the model cannot be divided among the group's ranks.
        """
        select_device(device)
        precision = precision_on(device, spec.dtype, spec.quantization)
        with building(precision):
            model = model_class(spec.architecture.family)(spec)
            model.eval()
            loaded = load_weights(model, spec.directory)
            with unquantized():
                dense = [DenseModule.load(dense) for dense in spec.dense]
        log.info("read %.1f MB of weights in %.1f s", loaded.bytes_read / 1e6, loaded.seconds)
        return cls(spec, model, dense, precision, followers, enforce_eager=enforce_eager)

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Compute something of every size, so that the first requests are as quick as the later ones."""
        for wanted in WARM_UP_LENGTHS:
            length = min(wanted, self.spec.max_model_len, max_num_batched_tokens)
            count = min(max_num_seqs, max(1, min(CHUNK_TOKENS, max_num_batched_tokens) // length))
            ids = np.zeros(length, dtype=np.int32)
            self.forward([PoolingInput(ids)])
            self.forward([PoolingInput(ids)] * count)
        with paddle.no_grad():
            if self._model.image_tower is not None:
                self._model.image_tower.warm_up()
            if self._graphs is not None:
                self._graphs.warm_up()
        self._warm_up_mixed(min(CHUNK_TOKENS, max_num_batched_tokens), max_num_seqs)

    def _warm_up_mixed(self, max_tokens: int, max_num_seqs: int) -> None:
        """Compute batches of sequences of every length together, from a single one's tokens to a whole chunk's."""
        generator = np.random.default_rng(0)
        longest = min(WARM_UP_LENGTHS[-1], self.spec.max_model_len, max_tokens)
        until = time.monotonic() + WARM_UP_SECONDS
        for wanted in np.linspace(longest, max_tokens, WARM_UP_MIXED_BATCHES):
            if time.monotonic() > until:
                break
            lengths = generator.integers(1, longest + 1, size=max_num_seqs)
            fitting = max(1, int(np.searchsorted(lengths.cumsum(), wanted, side="right")))
            self.forward([PoolingInput(np.zeros(length, dtype=np.int32)) for length in lengths[:fitting]])

    def forward(self, inputs: Sequence[PoolingInput]) -> list[Rows]:
        """The rows of each input's result, little-endian float32 [rows, numbers], in the order of the inputs.

        There is one row, unless the pooling type is ALL (a row for each token) or STEP (one for each step). Its
        numbers are an embedding, or scores. Inputs of several pooling types share one forward.

        Raises:
            InputError: as `start` does.
        """
        return self.start(inputs).rows()

    def start(self, inputs: Sequence[PoolingInput]) -> Started:
        """Has the device begin what `forward` gives.

        A GPU computes it while this thread prepares the next; a CPU, or a group of ranks, has finished it when this
        returns.

        Raises:
            InputError: a sequence is empty, too long or out of the vocabulary, or its dimensions, pooling type or
                activation are not for this model.
        """
        for position, given in enumerate(inputs):
            self._check(position, given)
            self.images.check(position, given)
        if self._followers is None:
            return self._begun(inputs)
        # What is wrong with an input was said above, before another rank began to compute.
        with self._followers.following(inputs):
            return Finished(self._begun(inputs).rows())

    def _begun(self, given: Sequence[PoolingInput]) -> Begun:
        inputs = [self._as_sequence(each) for each in given]
        places = chunks_by_length([len(each.ids) for each in inputs], self.chunk_tokens)
        chunks = [self._begun_chunk(chunk, [inputs[place] for place in chunk]) for chunk in places]
        return Begun(chunks, lambda place, rows: self._finished(rows, inputs[place]))

    def _begun_chunk(self, places: Sequence[int], taken: Sequence[PoolingInput]) -> Chunk:
        batch = PackedBatch.of(
            [each.ids for each in taken], [each.second_from for each in taken], self.images.axes(taken)
        )
        kinds = self._kinds(taken)
        ends = np.cumsum(self._pooler.counts(batch, kinds))
        return Chunk(places, ends, self._rows(batch, kinds, self.images.placed(taken)))

    def _as_sequence(self, given: PoolingInput) -> PoolingInput:
        """An input with the ids that are computed for it: some models cut texts, or fill them up."""
        ids = given.ids if given.images else self._model.sequence(given.ids)
        return given if ids is given.ids else replace(given, ids=ids)

    def _kinds(self, inputs: Sequence[PoolingInput]) -> list[PoolingType] | None:
        """How each input is pooled; None where all are as the model says, which is the rule."""
        if all(each.pooling_type is None for each in inputs):
            return None
        return [each.pooling_type or self.spec.pooler.pooling_type for each in inputs]

    def _rows(self, batch: PackedBatch, kinds: Sequence[PoolingType] | None, images: PlacedImages | None) -> Arriving:
        """The pooled rows of a chunk after head and dense layers, float32 [rows, numbers]."""
        with paddle.no_grad():
            rows = self._pooler(self._hidden(batch, images), batch, kinds)
            for layer in (self._model.head, *self._dense):
                # A batch without a single step has no rows.
                rows = layer(rows) if layer is not None and rows.shape[0] else rows
            return Arriving(as_type(rows, paddle.float32))

    def _hidden(self, batch: PackedBatch, images: PlacedImages | None) -> paddle.Tensor:
        """The hidden states of a chunk, float32 [T, hidden size], by whichever way is the quickest for its size."""
        if self._graphs is not None and images is None and (size := self._graphs.size(batch)):
            return self._graphs.hidden(batch, size)
        short = batch.token_ids.size <= self.eager_tokens
        long = batch.grid.shape[1] > LONGEST_AT_ONCE
        compiled = None if short or long or images else self._compiled
        forward: Forward = compiled or (partial(self._model.__call__, images=images) if images else self._model)
        # A compiled program always adds a mask, so that there is only one program.
        index = attention_index(batch, self._model.plan, always_masked=compiled is not None)
        ids, positions, segments = map(tensor_of, (batch.token_ids, batch.positions, batch.segments))
        return forward(ids, positions, segments, index)

    def _finished(self, rows: Rows, given: PoolingInput) -> Rows:
        pooler = self.spec.pooler
        if self.spec.head is not Head.NONE:
            return finished_scores(rows, given.activation or pooler.activation, self.spec.good_label)
        normalize = pooler.normalize if given.normalize is None else given.normalize
        return finished_embedding(rows, given.dimensions or self.spec.embedding_dimensions, normalize)

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
        refused = refusal(self.spec, given.pooling_type, given.activation)
        if refused is not None:
            raise InputError(f"Input {position}: {refused}")


def _compiled(model: PoolingModel) -> Forward:
    """The model as one program for inputs of any size, which takes only the tensors that the family reads."""
    read = [name for name in ("token_ids", "positions", "segments") if name in model.inputs]

    def flat(tokens: list[paddle.Tensor], index: list[paddle.Tensor]) -> list[paddle.Tensor]:
        given = {name: tokens[number] for number, name in enumerate(read)}
        laid_out = unflattened(index, model.plan)
        return [model(given["token_ids"], given.get("positions"), given.get("segments"), laid_out)]

    tokens = [paddle.static.InputSpec([None], "int64", name) for name in read]
    program = as_program(flat, tokens, flat_signature(model.plan))

    def forward(
        token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor, index: AttentionIndex
    ) -> paddle.Tensor:
        given = {"token_ids": token_ids, "positions": positions, "segments": segments}
        return program([given[name] for name in read], flattened(index))[0]

    return forward
