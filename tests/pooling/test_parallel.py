"""A model divided among processes gives what it gives in one."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import OptionError
from pooling.parallel import Group
from pooling.pooler_config import Activation, PoolingType
from pooling.ranks import Assignment, decode_inputs, encode_inputs
from pooling.vision.processors import PreparedImage
from tests.pooling.test_families import FAMILIES, inputs_of, options_of
from tests.pooling.test_vision_families import LEAST_COSINE, VISION, images_of, recorded

LARGEST_DIFFERENCE = 1e-5


def rows_of_ranks(size: int, name: str, **changed: str) -> list[np.ndarray]:
    """What a group of so many ranks gives for the inputs of a golden, with options beside the golden's own."""
    ids = [known.ids for known in inputs_of(name)]
    said = asdict(replace(options_of(name), **changed))
    options = {field: value for field, value in said.items() if value is not None}
    return rows_of_rank_zero(size, FAMILIES / name, options, ids)


def rows_of_rank_zero(size: int, checkpoint: Path, *given: object) -> list[np.ndarray]:
    """What `rank_zero` prints, for the rest of its arguments as JSON."""
    command = [sys.executable, "-m", "tests.pooling.rank_zero", str(size), str(checkpoint), *map(json.dumps, given)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in finished.stdout.splitlines() if line.startswith("ROWS ")]
    assert finished.returncode == 0, finished.stderr[-2000:]
    return [np.array(rows, dtype=np.float32) for rows in json.loads(lines[0].removeprefix("ROWS "))]


@pytest.mark.parametrize(
    "name",
    [
        "llama",  # biases, grouped-query heads, several files
        "qwen3-reranker",  # norms of heads, a tied embedding read in two ways
        "xlm-roberta-classifier",  # an encoder with a head
        "mpnet",  # a bias for each head
        "modernbert",  # queries, keys and values stored as one tensor, and gate and up too
        "ernie-moe",  # experts
    ],
)
def test_two_ranks_give_what_one_gives(name: str) -> None:
    engine = Engine.load(resolve_spec(FAMILIES / name, options_of(name)))
    texts = inputs_of(name)
    alone = engine.forward([PoolingInput(np.array(known.ids, dtype=np.int32)) for known in texts])
    for known, rows, expected in zip(texts, rows_of_ranks(2, name), alone, strict=True):
        size = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(rows, expected, rtol=0, atol=LARGEST_DIFFERENCE * size, err_msg=str(known.text))


@pytest.mark.parametrize("name", ["ernie-vl", "qwen2.5-vl", "clip", "siglip2"])
def test_two_ranks_give_what_one_gives_of_images(name: str) -> None:
    known = recorded(name)["inputs"]
    images = [[str(VISION / "images" / image) for image in images_of(each["messages"])] for each in known]
    found = rows_of_rank_zero(2, VISION / name, {}, [each["ids"] for each in known], images)
    for rows, each in zip(found, known, strict=True):
        (row,), expected = rows, np.array(each["rows"][0])
        assert row @ expected / np.linalg.norm(row) / np.linalg.norm(expected) >= LEAST_COSINE


def test_a_model_that_cannot_be_divided_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        AssertionError, match=r"--tensor-parallel-size 4 does not divide this model's 6 attention heads"
    ):
        rows_of_ranks(4, "llama")


def test_each_rank_has_an_equal_part() -> None:
    assert [Group(rank, 3).share(6, "heads") for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(OptionError, match=r"--tensor-parallel-size 4 does not divide this model's 6 heads"):
        Group(0, 4).share(6, "heads")


@pytest.mark.parametrize(
    ("heads", "size", "parts"),
    [
        (4, 2, [slice(0, 2), slice(2, 4)]),
        (2, 4, [slice(0, 1), slice(0, 1), slice(1, 2), slice(1, 2)]),
        (1, 3, [slice(0, 1)] * 3),
    ],
)
def test_key_heads_are_divided_or_shared(heads: int, size: int, parts: list[slice]) -> None:
    assert [Group(rank, size).share_of_kv_heads(heads) for rank in range(size)] == parts


def test_key_heads_that_fit_no_rank_are_refused() -> None:
    with pytest.raises(OptionError, match="3 key and value heads"):
        Group(0, 2).share_of_kv_heads(3)


@pytest.mark.parametrize(("count", "size"), [(10, 3), (2, 4), (7, 7)])
def test_every_row_of_a_table_has_one_rank(count: int, size: int) -> None:
    rows = [row for rank in range(size) for row in range(count)[Group(rank, size).rows(count)]]
    assert rows == list(range(count))


def test_messages_survive_the_way_to_another_rank() -> None:
    given = [
        PoolingInput(np.array([1, 2, 70_000], dtype=np.int32), second_from=2, dimensions=12, normalize=False),
        PoolingInput(np.array([5], dtype=np.int32), pooling_type=PoolingType.ALL, activation=Activation.NONE),
        PoolingInput(np.array([5], dtype=np.int32)),
    ]
    patches = np.arange(24, dtype=np.float32).reshape(4, 6)
    of_image = PoolingInput(
        np.array([5, 5], dtype=np.int32), images=(PreparedImage(b"key", patches, (1, 2, 2), (1, 2, 1)),)
    )
    (image,) = decode_inputs(encode_inputs([of_image]))[0].images
    np.testing.assert_array_equal(image.patches, patches)
    assert replace(image, patches=patches) == of_image.images[0]
    for before, after in zip(given, decode_inputs(encode_inputs(given)), strict=True):
        assert after.ids.tolist() == before.ids.tolist()
        assert replace(after, ids=before.ids) == before
        assert (type(after.pooling_type), type(after.activation)) == (
            type(before.pooling_type),
            type(before.activation),
        )
    assignment = Assignment(1, ("a:1", "b:2"), "/somewhere", options_of("math-shepherd"), "cpu")
    assert Assignment.decode(assignment.encode()) == assignment
