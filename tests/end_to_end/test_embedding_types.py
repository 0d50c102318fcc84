"""Embeddings in every type, as JSON and as frames, and the fields of Jina's clients."""

import base64
import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from api.quantizing import EmbeddingType, quantized
from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import TINY_BERT, client_of, serving

TEXTS = ["water and wheels", "a stone", "The mill pond stores water."]
PROMPTS = golden_of("prompts")
FRAMED = {"accept": "application/octet-stream"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A model with the prompts query, document (its default) and none."""
    directory = made(PROMPTS, tmp_path_factory.mktemp("prompts") / "prompts")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def read_frame() -> Callable[[bytes], tuple[dict[str, Any], np.ndarray]]:
    """The reader that docs/dialects/framed.md prints, as it stands there."""
    page = (ROOT / "docs/dialects/framed.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?def read_frame.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    found: Callable[[bytes], tuple[dict[str, Any], np.ndarray]] = names["read_frame"]
    return found


def embeddings(client: httpx.Client, **fields: object) -> list[Any]:
    reply = client.post("/v1/embeddings", json={"input": TEXTS, **fields})
    assert reply.status_code == 200, reply.text
    return [each["embedding"] for each in reply.json()["data"]]


@pytest.mark.parametrize("kind", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("field", ["encoding_format", "embedding_type"])
def test_each_type_is_made_of_the_same_floats(client: httpx.Client, kind: EmbeddingType, field: str) -> None:
    floats = np.array(embeddings(client), np.float32)
    found = np.array(embeddings(client, **{field: kind}))
    assert found.shape == ((3, 6) if "binary" in kind else (3, 48))
    assert np.abs(found - quantized(floats, kind).astype(int)).max() <= (0 if "binary" in kind else 1)


def test_a_list_of_one_type_is_that_type(client: httpx.Client) -> None:
    (first, *_) = embeddings(client, embedding_type=["base64"])
    assert np.frombuffer(base64.b64decode(first), "<f4").shape == (48,)


@pytest.mark.parametrize("kind", ["float", "base64", "int8", "uint8", "binary", "ubinary"])
def test_the_printed_reader_reads_a_frame_of_each_type(
    client: httpx.Client, read_frame: Callable[[bytes], tuple[dict[str, Any], np.ndarray]], kind: EmbeddingType
) -> None:
    reply = client.post("/v1/embeddings", json={"input": TEXTS, "encoding_format": kind}, headers=FRAMED)
    assert reply.headers["content-type"] == "application/octet-stream"
    header, rows = read_frame(reply.content)
    wanted = np.array(embeddings(client, encoding_format="float" if kind == "base64" else kind), rows.dtype)
    np.testing.assert_allclose(rows.astype(float), wanted.astype(float), atol=1e-6 if rows.dtype == "<f4" else 1)
    assert header["encoding_format"] == kind
    assert header["model"] == "tiny-bert"
    assert header["usage"]["prompt_tokens"] == header["usage"]["total_tokens"] > 3
    assert re.fullmatch("embd-[0-9a-f]{32}", header["id"])
    assert header["created"] > 1_700_000_000


def test_the_header_of_2048_vectors_is_small_and_they_fill_the_rest(client: httpx.Client) -> None:
    reply = client.post("/v1/embeddings", json={"input": ["a"] * 2048}, headers=FRAMED)
    (length,) = struct.unpack_from("<I", reply.content, 4)
    assert length < 400
    assert len(reply.content) == 8 + length + 2048 * 48 * 4


def test_an_error_of_a_framed_call_is_json(client: httpx.Client) -> None:
    assert checked(client.post("/v1/embeddings", json={"input": ""}, headers=FRAMED), 400)["param"] == "input"


def test_jinas_task_chooses_the_prompt(prompts: httpx.Client) -> None:
    # No prompt is for the last: none at all, and not the default.
    for task, name in (
        ("retrieval.query", "query"),
        ("retrieval.passage", "document"),
        ("document", "document"),
        ("classification", "none"),
    ):
        wanted = np.array(embeddings(prompts, prompt_name=name))
        assert np.array(embeddings(prompts, task=task)) == pytest.approx(wanted, abs=1e-6)


def test_jinas_normalized_is_normalize(client: httpx.Client) -> None:
    lengths = np.linalg.norm(np.array(embeddings(client, normalized=False)), axis=1)
    assert lengths == pytest.approx(np.linalg.norm(np.array(embeddings(client, normalize=False)), axis=1))
    assert np.abs(lengths - 1).max() > 0.01


BAD: list[tuple[str, dict[str, object], str, str]] = [
    ("two types", {"embedding_type": ["float", "int8"]}, "embedding_type", "has 2 types"),
    ("no type", {"embedding_type": []}, "embedding_type", "has 0 types"),
    ("types at odds", {"embedding_type": "int8", "encoding_format": "base64"}, "embedding_type", "send one of them"),
    ("normalized at odds", {"normalize": True, "normalized": False}, "normalized", "contradict"),
    ("late chunking", {"late_chunking": True}, "late_chunking", "embedded by itself"),
    ("an unknown task", {"task": "cooking"}, "task", "'cooking'.*retrieval.query.*no prompts of its own"),
    ("a task and a prompt", {"task": "clustering", "prompt_name": "a"}, "task", "both choose a prompt"),
    ("a task with ids", {"task": "clustering", "input": [5]}, "task", "input is token ids"),
]


@pytest.mark.parametrize(("changes", "param", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_wrong_field_is_named(client: httpx.Client, changes: dict[str, object], param: str, message: str) -> None:
    error = checked(client.post("/v1/embeddings", json={"input": "a", **changes}), 400)
    assert error["param"] == param
    assert re.search(message, str(error["message"])), error


def test_bits_need_a_number_of_dimensions_that_fills_bytes(tmp_path: Path) -> None:
    config = json.dumps({"matryoshka_dimensions": [20, 48]})
    with serving("--pooler-config", config, model=TINY_BERT) as server, client_of(server) as client:
        body = {"input": "a", "encoding_format": "binary", "dimensions": 20}
        error = checked(client.post("/v1/embeddings", json=body), 400)
        assert error["param"] == "encoding_format"
        assert "8 numbers into a byte, and the vectors have 20" in str(error["message"])
        body = {"texts": ["a"], "embedding_types": ["float", "ubinary"], "output_dimension": 20}
        reply = client.post("/v2/embed", json=body)
        assert reply.status_code == 400
        assert reply.json()["message"].startswith("embedding_types is ubinary")
        body["embedding_types"] = ["float", "int8"]
        found = client.post("/v2/embed", json=body).json()["embeddings"]
        assert [len(found[kind][0]) for kind in ("float", "int8")] == [20, 20]
