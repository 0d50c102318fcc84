"""Embeddings in fewer bytes: one byte or one bit for each number, the same for every call.

Nothing is calibrated: what a vector becomes depends on that vector alone, so vectors of different calls, days and
servers can be compared. A vector is brought to length 1 first, as all but `float` say its direction only.
"""

import math
from typing import Annotated, Literal

import numpy as np
from annotated_types import MaxLen
from numpy.typing import NDArray

EmbeddingType = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
"""What the numbers of an embedding are to be; base64 carries those of float."""

EmbeddingTypes = Annotated[list[EmbeddingType], MaxLen(64)]
"""Several in a request; bounded, as pydantic finds every wrong one and of a million that takes half a minute."""

INT8_RANGE = 10.0
"""The largest number that int8 can tell, in units of the root mean square of a unit vector's numbers.

Models have dimensions that stand out: cutting them off costs more than the coarser steps of a wider range. With 10 the
cosine with the original is 0.9997 for all-MiniLM-L6-v2, whose largest number is at 8; docs/dialects/embedding-types.md
has the table and the command.
"""

LEVELS = 127
"""int8 goes from -127 to 127, so that the negative of a vector has the negative numbers."""

BITS = 8

Float32s = NDArray[np.float32]
Bytes = NDArray[np.int8] | NDArray[np.uint8]


def packs_bits(kind: EmbeddingType) -> bool:
    """Whether the type has one bit for each number: it needs a number of dimensions that 8 divides."""
    return kind in ("binary", "ubinary")


def quantized(vectors: Float32s, kind: EmbeddingType) -> Float32s | Bytes:
    """Embeddings as another type.

    Args:
        vectors: float32 [n, dimensions].

    Returns:
        float32 [n, dimensions] for float and base64; int8 or uint8 [n, dimensions]; for binary int8 and for ubinary
        uint8 [n, dimensions / 8], a bit for each number that says whether it is 0 or more, the first bit the highest.
    """
    if kind in ("float", "base64"):
        return vectors
    if packs_bits(kind):
        bits: NDArray[np.uint8] = np.packbits(vectors >= 0, axis=-1)
        return bits if kind == "ubinary" else _signed(bits)
    steps = np.rint(_units(vectors) / int8_step(vectors.shape[-1]))
    numbers: NDArray[np.int8] = np.clip(steps, -LEVELS, LEVELS).astype(np.int8)
    return numbers if kind == "int8" else (numbers.astype(np.int16) + 128).astype(np.uint8)


def int8_step(dimensions: int) -> float:
    """What 1 of int8 stands for, in a vector of length 1."""
    # No number of a unit vector is over 1.
    return min(1.0, INT8_RANGE / math.sqrt(dimensions)) / LEVELS


def _units(vectors: Float32s) -> Float32s:
    """The vectors at length 1; one of zeros stays so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Float32s = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units


def _signed(numbers: NDArray[np.uint8]) -> NDArray[np.int8]:
    """0 to 255 as -128 to 127, in order."""
    return (numbers.astype(np.int16) - 128).astype(np.int8)
