"""The engines that the tests of this package share, each loaded once a run."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pooling.config import resolve_spec
from pooling.device import prepare_process
from pooling.errors import CheckpointError
from pooling.fetch import DEFAULT_MODEL, local_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
TINY_BERT = GOLDEN / "tiny-bert"
TINY_BERT_CLS = GOLDEN / "tiny-bert-cls"

# Before any test module imports paddle; where another package's tests did so already, only the speed differs.
if "paddle" not in sys.modules:
    prepare_process("cpu", None)

from pooling.engine import Engine  # noqa: E402  (paddle reads its environment when it is loaded)


class Expected(NamedTuple):
    """What the reference implementations make of one text."""

    text: str
    ids: list[int]
    ids_untruncated: list[int]
    embedding: NDArray[np.float32]
    pooled: dict[str, NDArray[np.float32]]


def expected_of(directory: Path) -> list[Expected]:
    """The recorded results for a tiny checkpoint of tests/golden."""
    rows = map(json.loads, directory.with_name(f"{directory.name}.expected.jsonl").read_text("utf-8").splitlines())
    return [
        Expected(
            row["text"],
            row["ids"],
            row["ids_untruncated"],
            np.array(row["embedding"], dtype=np.float32),
            {kind: np.array(row[kind], dtype=np.float32) for kind in ("MEAN", "CLS", "LAST")},
        )
        for row in rows
    ]


@pytest.fixture(scope="session")
def tiny_engine() -> Engine:
    """A random BERT of three layers, pooled by MEAN and normalised."""
    return Engine.load(resolve_spec(TINY_BERT))


@pytest.fixture(scope="session")
def tiny_cls_engine() -> Engine:
    """A random BERT of two layers out of BertForMaskedLM, pooled by CLS, not normalised, with Matryoshka dimensions."""
    return Engine.load(resolve_spec(TINY_BERT_CLS))


@pytest.fixture(scope="session")
def minilm_directory() -> Path:
    """The real all-MiniLM-L6-v2, downloaded into the user's cache on the first run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millpond"
    try:
        return local_checkpoint(DEFAULT_MODEL, None, cache)
    except CheckpointError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def minilm_engine(minilm_directory: Path) -> Iterator[Engine]:
    """The real all-MiniLM-L6-v2 in memory."""
    yield Engine.load(resolve_spec(minilm_directory))
