"""The labels of texts, for every dialect that asks: one probability for each label, or raw scores."""

from dataclasses import dataclass

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from api.answering import PoolingCall, pooled
from api.sequences import Sequences
from api.serving import ServedModel
from pooling.architectures import Head
from pooling.config import ModelSpec
from pooling.pooler_config import Activation

TASKS = ("classify", "score")
"""What a model must be served for, one of them, to give labels: with one label only, it compares texts."""


@dataclass(frozen=True)
class Classified:
    """What came of a classification.

    Attributes:
        labels: what the model calls its labels, in the order of the scores.
        scores: float32 [inputs, labels].
        activation: what was applied to them, by name.
        tokens: how many were computed.
    """

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    activation: str
    tokens: int


async def classified(
    request: Request,
    model: ServedModel,
    sequences: Sequences,
    *,
    activate: bool | None = None,
    priority: int = 0,
) -> Classified:
    """A score for each label of each sequence; a pair of texts is a sequence too.

    Args:
        model: one that is served for one of TASKS.
        activate: False gives raw scores; True and None probabilities, as the checkpoint says how.

    Raises:
        ApiError: as `pooled` does.
    """
    activation = activation_of(model.spec, activate)
    rows = await pooled(request, PoolingCall(model, sequences, activation=activation, priority=priority))
    scores = np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1)
    return Classified(label_names(model.spec, scores.shape[1]), scores, str(activation), sequences.tokens)


def label_names(spec: ModelSpec, count: int) -> tuple[str, ...]:
    """What a model calls its labels; as in transformers LABEL_0 and so on where its files are silent."""
    return spec.label_names or tuple(f"LABEL_{number}" for number in range(count))


def activation_of(spec: ModelSpec, activate: bool | None) -> Activation:
    """What is applied to a model's scores when a caller wants probabilities, raw scores, or says nothing.

    What the checkpoint or the user states comes first. Else a classifier gives probabilities, which its problem_type
    decides as in transformers' pipelines; a reward is raw unless the caller asks.
    """
    if activate is False:
        return Activation.NONE
    own = spec.pooler.activation
    if own is not Activation.NONE:
        return own
    if activate is None and (spec.activation_stated or spec.head in (Head.REWARD, Head.GATED_REWARD)):
        return own
    problem = spec.settings.get("problem_type")
    if problem == "regression":
        return own
    single = spec.row_width == 1 or problem == "multi_label_classification"
    return Activation.SIGMOID if single else Activation.SOFTMAX
