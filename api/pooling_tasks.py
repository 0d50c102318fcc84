"""What vLLM calls the tasks of pooling: an embedding or scores, for each input or for each of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from api.answering import PoolingCall, pooled
from api.classifying import activation_of
from api.embedding import check_dimensions, check_embeds, embedded, stacked, token_vectors
from api.errors import bad_request
from api.sequences import Sequences
from api.serving import ServedModel
from pooling.architectures import Head
from pooling.config import ModelSpec
from pooling.pooler_config import Activation, PoolingType

Rows = NDArray[np.float32]


class Task(StrEnum):
    """What a request wants of its inputs."""

    EMBED = "embed"
    CLASSIFY = "classify"
    EMBED_TOKENS = "token_embed"
    CLASSIFY_TOKENS = "token_classify"

    @property
    def per_token(self) -> bool:
        """Whether its results have a row for each token or step."""
        return self in (Task.EMBED_TOKENS, Task.CLASSIFY_TOKENS)

    @property
    def served_as(self) -> tuple[str, ...]:
        """What a model must be served for, one of these."""
        return ("embed",) if self in (Task.EMBED, Task.EMBED_TOKENS) else ("classify", "score", "reward")


@dataclass(frozen=True)
class Wanted:
    """How inputs are pooled.

    Attributes:
        dimensions: of embeddings; None is the model's own.
        activate: whether embeddings have length 1, and scores an activation; None leaves it to the model.
    """

    task: Task
    dimensions: int | None = None
    activate: bool | None = None
    priority: int = 0


@dataclass(frozen=True)
class Results:
    """What came of it.

    Attributes:
        rows: of each input: float32 [numbers], or [rows, numbers] for a task of tokens.
        pooling: which tokens gave the rows, by name.
        activation: what was applied to scores, by name; None for embeddings.
    """

    rows: Sequence[Rows]
    pooling: str
    activation: str | None = None


def usual_task(spec: ModelSpec) -> Task:
    """The task of a request that names none."""
    if spec.head is Head.NONE:
        return Task.EMBED_TOKENS if spec.many_rows else Task.EMBED
    return Task.CLASSIFY_TOKENS if spec.many_rows else Task.CLASSIFY


def check_wanted(model: ServedModel, wanted: Wanted) -> None:
    """Raises a 400 for what this model cannot give; it is served for the task's own."""
    spec = model.spec
    if spec.head is Head.NONE:
        if wanted.task is Task.EMBED:
            check_embeds(model)
        check_dimensions(model, wanted.dimensions)
        return
    if wanted.dimensions is not None:
        raise bad_request("dimensions is for embeddings, and scores are never cut: leave it out.", "dimensions")
    if wanted.task is Task.CLASSIFY and spec.many_rows:
        raise bad_request(
            f"task is classify, and {model.name} pools by {spec.pooler.pooling_type}, which gives scores for each "
            "token: ask for token_classify, or serve it with another pooling_type in --pooler-config.",
            "task",
            "task_not_supported",
        )
    if wanted.task is Task.CLASSIFY_TOKENS and wanted.activate is False and spec.good_label is not None:
        raise bad_request(
            f"use_activation is false, and of the two scores that {model.name} gives a token only the difference is "
            "kept: leave it out for their probabilities.",
            "use_activation",
        )


async def pooled_for(request: Request, model: ServedModel, sequences: Sequences, wanted: Wanted) -> Results:
    """The task's results; check with `check_wanted` before tokenising."""
    spec = model.spec
    if spec.head is not Head.NONE:
        return await _scores(request, model, sequences, wanted)
    if wanted.task is Task.EMBED_TOKENS:
        vectors = await token_vectors(
            request,
            model,
            sequences,
            dimensions=wanted.dimensions,
            normalize=wanted.activate,
            priority=wanted.priority,
        )
        return Results(vectors, PoolingType.ALL)
    found = await embedded(
        request, model, sequences, dimensions=wanted.dimensions, normalize=wanted.activate, priority=wanted.priority
    )
    return Results(list(stacked(found)), spec.pooler.pooling_type)


async def _scores(request: Request, model: ServedModel, sequences: Sequences, wanted: Wanted) -> Results:
    spec = model.spec
    own = spec.pooler.pooling_type
    by_token = wanted.task is Task.CLASSIFY_TOKENS
    pooling = PoolingType.ALL if by_token and own is not PoolingType.STEP else own
    activation = activation_of(spec, wanted.activate)
    call = PoolingCall(model, sequences, pooling_type=pooling, activation=activation, priority=wanted.priority)
    found = [np.frombuffer(rows, "<f4").reshape(-1, spec.row_width) for rows in await pooled(request, call)]
    if not by_token:
        found = [rows[0] for rows in found]
    elif activation is Activation.SOFTMAX and spec.good_label is not None:
        found = [_both(rows, spec.good_label) for rows in found]
    return Results(found, pooling, activation)


def _both(good: Rows, place: int) -> Rows:
    """The probabilities of both labels, float32 [rows, 2], from that of the good one, which stands at `place`."""
    columns = [1 - good, good] if place == 1 else [good, 1 - good]
    return np.hstack(columns)
