"""What the embedding types of a byte or a bit cost in quality, on real vectors of one model.

    .venv/bin/python -m benchmarks.quantizing --json FILE

Texts are embedded once, as float, over HTTP. The cosine is that of a vector with what is left of it; the recall is the
share of a text's ten nearest others by float that are among its ten nearest by the type.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.options import Options
from api.quantizing import EmbeddingType, Float32s, quantized
from api.serving import checkpoint_directory
from benchmarks.machine import describe_machine
from benchmarks.texts import mixed_texts
from tests.server import client_of, serving

KINDS: tuple[EmbeddingType, ...] = ("int8", "uint8", "binary", "ubinary")
NEAREST = 10
CALL = 256


def embedded(model: Path, texts: list[str]) -> Float32s:
    """The texts' vectors, float32 [n, dimensions], cut to the model's limit."""
    found = []
    with serving(model=model) as server, client_of(server) as client:
        for begin in range(0, len(texts), CALL):
            body = {"input": texts[begin : begin + CALL], "truncate_prompt_tokens": -1}
            reply = client.post("/v1/embeddings", json=body)
            reply.raise_for_status()
            found += [each["embedding"] for each in reply.json()["data"]]
    return np.array(found, np.float32)


def restored(vectors: Float32s, kind: EmbeddingType) -> Float32s:
    """What a reader makes of a type, at length 1: a bit is 1 or -1."""
    numbers = quantized(vectors, kind).astype(np.int16)
    if kind in ("uint8", "binary"):
        numbers += -128 if kind == "uint8" else 128
    if kind in ("binary", "ubinary"):
        numbers = np.unpackbits(numbers.astype(np.uint8), axis=-1).astype(np.int16) * 2 - 1
    floats = numbers.astype(np.float32)
    units: Float32s = floats / np.linalg.norm(floats, axis=-1, keepdims=True)
    return units


def nearest(vectors: Float32s) -> NDArray[np.int64]:
    """For each vector the ten nearest others, [n, 10]."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1, kind="stable")[:, :NEAREST]


def measured(vectors: Float32s) -> list[dict[str, float | str]]:
    """One row a type."""
    wanted, rows = nearest(vectors), list[dict[str, float | str]]()
    for kind in KINDS:
        kept = restored(vectors, kind)
        cosines = (vectors * kept).sum(axis=1)
        shared = [len(np.intersect1d(one, other)) for one, other in zip(wanted, nearest(kept), strict=True)]
        rows.append(
            {
                "type": kind,
                "bytes": quantized(vectors[:1], kind).nbytes,
                "lowest_cosine": float(cosines.min()),
                "mean_cosine": float(cosines.mean()),
                "recall": float(np.mean(shared)) / NEAREST,
            }
        )
    return rows


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    vectors = embedded(checkpoint_directory(Options()), mixed_texts(options.texts))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = measured(vectors)
    print(f"{len(vectors)} texts, {vectors.shape[1]} dimensions, {vectors[:1].nbytes} bytes as float")
    print(f"{'type':<10}{'bytes':>7}{'lowest cosine':>15}{'mean cosine':>13}{'recall@10':>11}")
    for row in rows:
        print(
            f"{row['type']:<10}{row['bytes']:>7}{row['lowest_cosine']:>15.5f}{row['mean_cosine']:>13.5f}"
            f"{row['recall']:>11.3f}"
        )
    if options.json:
        options.json.write_text(json.dumps({**describe_machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
