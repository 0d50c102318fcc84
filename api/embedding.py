"""Embeddings, for every dialect that has them: one vector for an input, or one for each of its tokens."""

from collections.abc import Sequence

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from api.answering import PoolingCall, pooled
from api.errors import bad_request
from api.quantizing import BITS, EmbeddingType, packs_bits
from api.sequences import Sequences
from api.serving import ServedModel
from pooling.architectures import Head
from pooling.pooler_config import PoolingType

Vectors = NDArray[np.float32]


def check_embeds(model: ServedModel, dimensions: int | None = None, field: str = "dimensions") -> None:
    """Raises a 400 when the model gives no single vector, or none of this length.

    Args:
        field: what the request calls the length.
    """
    if model.spec.many_rows:
        kind = model.spec.pooler.pooling_type
        raise bad_request(
            f"{model.name} pools by {kind}, which gives a vector for each token; this route gives one for each input: "
            "serve it with another pooling_type in --pooler-config.",
            "model",
            "task_not_supported",
        )
    check_dimensions(model, dimensions, field)


def check_dimensions(model: ServedModel, dimensions: int | None, field: str = "dimensions") -> None:
    """Raises a 400 when the model gives no vectors of this length.

    Args:
        field: what the request calls it.
    """
    full, supported = model.spec.embedding_dimensions, model.spec.supported_dimensions
    if dimensions is None or dimensions in supported:
        return
    if dimensions > full:
        raise bad_request(f"{field} is {dimensions}, over this model's {full}.", field)
    if len(supported) > 1:
        raise bad_request(f"{field} is {dimensions}; this model allows {list(supported)}.", field)
    raise bad_request(
        f"{field} is {dimensions}; this model was not trained to be shortened and gives {full} only.", field
    )


async def embedded(
    request: Request,
    model: ServedModel,
    sequences: Sequences,
    *,
    dimensions: int | None = None,
    normalize: bool | None = None,
    priority: int = 0,
) -> list[bytes]:
    """One vector for each sequence, little-endian float32; check with `check_embeds` before tokenising."""
    return await pooled(
        request, PoolingCall(model, sequences, dimensions=dimensions, normalize=normalize, priority=priority)
    )


async def token_vectors(
    request: Request,
    model: ServedModel,
    sequences: Sequences,
    *,
    dimensions: int | None = None,
    normalize: bool | None = None,
    priority: int = 0,
) -> list[Vectors]:
    """A vector for each token of each sequence, special tokens included: float32 [tokens, dimensions] each."""
    assert model.spec.head is Head.NONE
    call = PoolingCall(
        model,
        sequences,
        dimensions=dimensions,
        normalize=normalize,
        pooling_type=PoolingType.ALL,
        priority=priority,
    )
    return [
        np.frombuffer(rows, "<f4").reshape(len(ids), -1)
        for rows, ids in zip(await pooled(request, call), sequences.ids, strict=True)
    ]


def stacked(vectors: Sequence[bytes]) -> Vectors:
    """Vectors of one length as float32 [n, dimensions]."""
    return np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)


def cosines(left: Vectors, right: Vectors) -> NDArray[np.float32]:
    """The cosine of each row with the one of the other side, float32 [n]; a side of one row goes with all.

    A vector of zeros is like nothing: 0.
    """
    products = (left * right).sum(axis=-1)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), dtype=np.float32)


def check_types(model: ServedModel, kinds: Sequence[EmbeddingType], dimensions: int | None, field: str) -> None:
    """Raises a 400 when vectors of this length cannot be had as one of these types.

    Args:
        dimensions: as the request says; None is the model's own.
        field: what the request calls the types.
    """
    length = dimensions or model.spec.embedding_dimensions
    packed = next((kind for kind in kinds if packs_bits(kind)), None)
    if packed is not None and length % BITS:
        raise bad_request(
            f"{field} is {packed}, which puts {BITS} numbers into a byte, and the vectors have {length}: ask for a "
            f"number of dimensions that {BITS} divides, or for another type.",
            field,
        )
