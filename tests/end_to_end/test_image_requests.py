"""What callers may not write where images are read, and forms of requests with images beyond a conversation's."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.server import GOLDEN, client_of, serving

VISION = GOLDEN / "vision"
PLACEHOLDER, PAD = 5, "<|image_pad|>"
IMMENSE = {"min_pixels": 2**31, "max_pixels": 2**32 - 1}
LEAST_COSINE = 0.9999


def data_uri(name: str) -> str:
    """An image of the goldens."""
    return "data:image/png;base64," + base64.b64encode((VISION / "images" / name).read_bytes()).decode()


SQUARE = data_uri("square.png")
PART = {"type": "image_url", "image_url": {"url": SQUARE}}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*parts: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def known(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VISION / f"{name}.expected.json").read_text("utf-8"))["inputs"]
    return found


@pytest.fixture(scope="module")
def vision() -> Iterator[httpx.Client]:
    """A tiny Qwen2-VL, which takes images among texts."""
    with serving(model=VISION / "qwen2-vl") as server, client_of(server) as client:
        yield client


def vectors(client: httpx.Client, **fields: object) -> np.ndarray:
    reply = client.post("/v1/embeddings", json=fields)
    assert reply.status_code == 200, reply.text
    return np.array([each["embedding"] for each in reply.json()["data"]])


def assert_like(found: np.ndarray, wanted: np.ndarray) -> None:
    cosines = (found * wanted).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosines.min() >= LEAST_COSINE


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("beside no image", {"messages": user(text(PAD))}, "messages", "stands for an image"),
    ("as a role", {"messages": [*user(PART), {"role": PAD, "content": "a"}]}, "messages", "stands for an image"),
    ("in two halves", {"messages": user(text("<|image"), text("_pad|>"))}, "messages", "has the token 5"),
    ("in two halves beside an image", {"messages": user(PART, text("<|image"), text("_pad|>"))}, "messages", "wrote 2"),
    ("as input", {"input": ["a", f"a {PAD}"]}, "input", "input[1] has the token 5"),
    ("among ids", {"input": [1, PLACEHOLDER, 2]}, "input", "has the token 5 (<|image_pad|>)"),
    ("among ids as messages", {"messages": [1, PLACEHOLDER]}, "messages", "messages has the token 5"),
    ("beside an image of input", {"input": [PAD, {"image": SQUARE}]}, "input", "input[0] has the token 5"),
    ("in a document", {"input": [{"image": SQUARE, "text": PAD}]}, "input", "stands for an image"),
    (
        "in a variable",
        {"messages": user(PART), "chat_template_kwargs": {"a": [PAD]}},
        "chat_template_kwargs",
        "stands for an image",
    ),
]


@pytest.mark.parametrize(("body", "param", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_placeholder_that_a_caller_wrote_is_refused(
    vision: httpx.Client, body: dict[str, Any], param: str, said: str
) -> None:
    error = checked(vision.post("/v1/embeddings", json=body), 400)
    assert error["param"] == param
    assert said in (error["message"] or "")


def test_a_row_with_a_written_placeholder_spoils_no_other(vision: httpx.Client) -> None:
    rows = [{"text": f"a {PAD}"}, {"messages": user(PART)}, {"messages": user(text(PAD))}, {"text": "a"}]
    reply = vision.post("/v1/rows", json={"task": "embed", "rows": rows}).json()
    assert [each.get("error", {}).get("code") for each in reply["data"]] == ["reserved_text", None] * 2


def test_an_image_that_options_make_immense_is_refused_and_its_tokens_are_not_listed(vision: httpx.Client) -> None:
    for path, body in (
        ("/v1/embeddings", {"messages": user(PART)}),
        ("/v1/embeddings", {"input": [{"image": SQUARE}]}),
        ("/tokenize", {"messages": user(PART)}),
    ):
        reply = vision.post(path, json={**body, "mm_processor_kwargs": IMMENSE})
        assert reply.status_code == 400
        assert "33558849 of them of its 1 images, over the limit of 256" in reply.json()["error"]["message"]


def test_options_are_checked_where_there_are_texts_alone(vision: httpx.Client) -> None:
    for body in ({"input": "a"}, {"input": [{"text": "a"}]}, {"input": [1, 2]}, {"messages": user(text("a"))}):
        error = checked(vision.post("/v1/embeddings", json={**body, "mm_processor_kwargs": {"fps": 2}}), 400)
        assert error["param"] == "mm_processor_kwargs"


def test_a_text_part_with_an_image_of_null_keeps_its_text(vision: httpx.Client) -> None:
    found = vectors(vision, messages=user({**text("water"), "image": None}))
    assert_like(found, vectors(vision, messages=user(text("water"))))


def test_an_image_with_a_text_is_one_document_as_the_reference_reads_it(vision: httpx.Client) -> None:
    case = known("qwen2-vl")[1]
    image, words = case["messages"][0]["content"]
    given = [{"image": data_uri(image["image"]), "text": words["text"]}, "a stone"]
    found = vectors(vision, input=given)
    assert_like(found[0], np.array(case["rows"][0]))
    assert_like(found[1], vectors(vision, input="a stone")[0])


def test_objects_of_text_alone_are_texts_and_long_ones_are_embedded_in_pieces(vision: httpx.Client) -> None:
    long = "the mill pond stores water " * 60
    plain, objects = (vectors(vision, input=[given, "a"], max_embed_len=2000) for given in (long, {"text": long}))
    assert_like(objects, plain)
    error = checked(vision.post("/v1/embeddings", json={"input": [{"image": SQUARE}], "max_embed_len": 2000}), 400)
    assert error["param"] == "max_embed_len"


def test_a_long_text_beside_an_image_is_cut_and_the_image_is_not(vision: httpx.Client) -> None:
    body = {"input": ["water " * 300, {"image": SQUARE}], "truncate_prompt_tokens": 40}
    reply = vision.post("/v1/embeddings", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["millpond-truncated-inputs"] == "1"
    error = checked(vision.post("/v1/embeddings", json={**body, "truncate_prompt_tokens": 20}), 400)
    assert "over the limit of 20" in (error["message"] or "")


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_rows_of_an_image_alone_get_the_vectors_of_the_reference(name: str) -> None:
    cases = [each for each in known(name) if not isinstance(each["messages"][0]["content"], str)]
    rows: list[dict[str, Any]] = [
        {"messages": user({"type": "image", "image": data_uri(each["messages"][0]["content"][0]["image"])})}
        for each in cases
    ]
    rows += [{"messages": user(PART, text("a"))}, {"text": "a"}]
    with serving(model=VISION / name) as server, client_of(server) as client:
        *found, both, plain = client.post("/v1/rows", json={"task": "embed", "rows": rows}).json()["data"]
        assert_like(plain["embedding"], vectors(client, input="a")[0])
    assert both["error"]["code"] == "too_many_parts"
    assert cases
    assert_like(np.array([each["embedding"] for each in found]), np.array([each["rows"][0] for each in cases]))
