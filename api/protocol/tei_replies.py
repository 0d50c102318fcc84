"""What the routes of text-embeddings-inference answer."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import BaseModel

from api.classifying import label_names
from api.protocol.inputs import MAX_INPUTS
from api.serving import ServedModel
from pooling.activations import Scores
from pooling.architectures import Head
from pooling.pooler_config import PoolingType


class Rank(BaseModel):
    """One text of a ranking."""

    index: int
    text: str | None = None
    score: float


class Prediction(BaseModel):
    """One label of a text."""

    score: float
    label: str


class Info(BaseModel):
    """`GET /info`: what the original says of itself, as far as it is true here."""

    model_id: str
    model_sha: None
    model_dtype: str
    model_type: dict[str, dict[str, Any]]
    max_input_length: int
    max_client_batch_size: int
    auto_truncate: bool
    version: str


def info_of(model: ServedModel) -> Info:
    """What `GET /info` says of a model."""
    return Info(
        model_id=model.name,
        model_sha=None,
        model_dtype=model.spec.dtype,
        model_type=_kind(model),
        max_input_length=model.spec.max_model_len,
        max_client_batch_size=MAX_INPUTS,
        auto_truncate=False,
        version=version("millpond"),
    )


def predictions_of(labels: Sequence[str], scores: Scores, most: int | None) -> list[list[dict[str, Any]]]:
    """The labels of each input with their scores, the highest first, equal ones in the model's order.

    Args:
        scores: float32 [inputs, labels].
        most: how many of them; None means all.
    """
    orders = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    return [
        [{"score": row[label], "label": labels[label]} for label in order]
        for row, order in zip(scores, orders.tolist(), strict=True)
    ]


def _kind(model: ServedModel) -> dict[str, dict[str, Any]]:
    spec = model.spec
    if spec.head is Head.NONE:
        pooling = spec.pooler.pooling_type
        return {"embedding": {"pooling": "last_token" if pooling is PoolingType.LAST else pooling.lower()}}
    names = label_names(spec, spec.row_width)
    labels = {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    return {"classifier" if "classify" in spec.tasks else "reranker": labels}
