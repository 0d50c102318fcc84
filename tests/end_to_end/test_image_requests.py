"""Images without messages, as Jina's and Cohere's clients send them, and what is refused of requests with images."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, client_of, serving

VISION = GOLDEN / "vision"
PLACEHOLDER, PAD = 5, "<|image_pad|>"
LEAST_COSINE = 0.9999
TOWERS = ["clip", "siglip"]


def bare(name: str) -> str:
    """An image of the goldens in base64."""
    return base64.b64encode((VISION / "images" / name).read_bytes()).decode()


def data_uri(name: str) -> str:
    return "data:image/png;base64," + bare(name)


SQUARE = data_uri("square.png")
PART = {"type": "image_url", "image_url": {"url": SQUARE}}
TEXT = {"type": "text", "text": "how many ducks are there"}
BLIND = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
FLAT = "{% for m in messages %}{{ m.content + 'x' }}{% endfor %}"


def user(*parts: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.fixture(scope="module")
def vision() -> Iterator[httpx.Client]:
    """A tiny Qwen2-VL, which takes images among texts."""
    options = ["--max-images", "4", "--max-request-bytes", "2000000", "--trust-request-chat-template"]
    with serving(*options, model=VISION / "qwen2-vl") as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module", params=TOWERS)
def towers(request: pytest.FixtureRequest) -> Iterator[tuple[httpx.Client, list[dict[str, Any]]]]:
    """A tiny CLIP and a tiny SigLIP, which take an image or a text; and what the reference gives."""
    name = str(request.param)
    known = json.loads((VISION / f"{name}.expected.json").read_text("utf-8"))["inputs"]
    with serving(model=VISION / name) as server, client_of(server) as client:
        yield client, known


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A model of text alone that takes messages."""
    directory = made(golden_of("chat-reward"), tmp_path_factory.mktemp("text") / "reward")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def vectors(client: httpx.Client, **fields: object) -> np.ndarray:
    reply = client.post("/v1/embeddings", json=fields)
    assert reply.status_code == 200, reply.text
    return np.array([each["embedding"] for each in reply.json()["data"]])


def cohere(client: httpx.Client, **fields: object) -> dict[str, Any]:
    reply = client.post("/v2/embed", json=fields)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def assert_like(found: np.ndarray, wanted: np.ndarray) -> None:
    cosines = (found * wanted).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosines.min() >= LEAST_COSINE


# --- an image among texts


def test_jinas_documents_with_images_are_what_a_user_says(vision: httpx.Client) -> None:
    given = [
        "water",
        {"image": SQUARE},
        {"text": "a stone"},
        {"image": data_uri("odd.png"), "text": "look"},
        {"image": bare("tiny.png")},
    ]
    wanted = [
        vectors(vision, input="water"),
        vectors(vision, messages=user(PART)),
        vectors(vision, input="a stone"),
        vectors(vision, messages=user({"type": "image", "image": data_uri("odd.png")}, text("look"))),
        vectors(vision, messages=user({"type": "image", "image": data_uri("tiny.png")})),
    ]
    assert_like(vectors(vision, input=given), np.vstack(wanted))


def test_the_reference_gives_the_same_for_one_of_jinas_documents(vision: httpx.Client) -> None:
    known = json.loads((VISION / "qwen2-vl.expected.json").read_text("utf-8"))["inputs"][1]
    assert known["messages"] == user({"type": "image", "image": "square.png"}, TEXT)
    reply = vision.post("/v1/embeddings", json={"input": [{"image": SQUARE, "text": TEXT["text"]}]}).json()
    assert reply["usage"]["prompt_tokens"] == len(known["ids"])
    assert_like(np.array(reply["data"][0]["embedding"]), np.array(known["rows"][0]))


def test_coheres_images_and_parts_are_what_a_user_says(vision: httpx.Client) -> None:
    images = cohere(vision, input_type="image", images=[SQUARE, data_uri("wide.png")])
    wanted = [
        vectors(vision, messages=user({"type": "image", "image": data_uri(f"{name}.png")}))
        for name in ("square", "wide")
    ]
    assert_like(np.array(images["embeddings"]["float"]), np.vstack(wanted))
    parts = [{"content": [TEXT, PART, text("and now?")]}, {"content": [TEXT]}]
    mixed = cohere(vision, input_type="search_document", inputs=parts)
    wanted = [vectors(vision, messages=user(TEXT, PART, text("and now?"))), vectors(vision, input=TEXT["text"])]
    assert_like(np.array(mixed["embeddings"]["float"]), np.vstack(wanted))


def test_coheres_bill_tells_tokens_of_images_apart(vision: httpx.Client) -> None:
    reply = cohere(vision, input_type="image", images=[SQUARE, SQUARE])
    total = reply["meta"]["tokens"]["input_tokens"]
    assert "texts" not in reply
    assert reply["meta"]["billed_units"] == {"input_tokens": total - 50, "images": 2, "image_tokens": 50}
    assert set(cohere(vision, texts=["a"])["meta"]["billed_units"]) == {"input_tokens"}


def test_objects_of_text_are_embedded_as_texts(vision: httpx.Client) -> None:
    plain = vectors(vision, input=["water", "a stone"])
    for given in ([{"text": "water"}, "a stone"], [{"text": "water"}, {"text": "a stone"}]):
        assert_like(vectors(vision, input=given), plain)


def test_pooling_and_options_are_for_documents_too(vision: httpx.Client) -> None:
    body = {"input": [{"image": SQUARE}, "a"], "mm_processor_kwargs": {"image_size": 16}}
    small = vision.post("/pooling", json=body).json()
    whole = vision.post("/pooling", json={"input": body["input"]}).json()
    assert [each["index"] for each in small["data"]] == [0, 1]
    assert small["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"] - 25 + 4


def test_a_long_text_beside_an_image_is_cut_and_the_image_is_not(vision: httpx.Client) -> None:
    body = {"input": ["water " * 300, {"image": SQUARE}], "truncate_prompt_tokens": 40}
    reply = vision.post("/v1/embeddings", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["millpond-truncated-inputs"] == "1"
    error = vision.post("/v1/embeddings", json={**body, "truncate_prompt_tokens": 20}).json()["error"]
    assert "input[1] has" in error["message"]
    assert "over the limit of 20" in error["message"]


def test_a_text_part_with_an_image_of_null_keeps_its_text(vision: httpx.Client) -> None:
    found = vectors(vision, messages=user({**text("water"), "image": None}))
    assert_like(found, vectors(vision, messages=user(text("water"))))


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("a written placeholder", {"messages": user(text(PAD), PART)}, "messages", "stands for an image"),
    ("a written placeholder beside no image", {"messages": user(text(PAD))}, "messages", "stands for an image"),
    ("two halves of one", {"messages": user(text("<|image"), text("_pad|>"))}, "messages", "has the token 5"),
    ("two halves beside an image", {"messages": user(PART, text("<|image"), text("_pad|>"))}, "messages", "wrote 2"),
    ("a placeholder as input", {"input": ["a", f"a {PAD}"]}, "input", "input[1] has the token 5"),
    ("a placeholder among ids", {"input": [1, PLACEHOLDER, 2]}, "input", "has the token 5 (<|image_pad|>)"),
    ("ids as messages", {"messages": [1, PLACEHOLDER]}, "messages", "messages has the token 5"),
    ("one in a document", {"input": [{"image": SQUARE, "text": PAD}]}, "input", "stands for an image"),
    (
        "one in a variable",
        {"messages": user(PART), "chat_template_kwargs": {"a": [PAD]}},
        "chat_template_kwargs",
        "stands for an image",
    ),
    ("a template without images", {"messages": user(PART), "chat_template": BLIND}, "messages", "wrote 0 placeholders"),
    ("a template of one text", {"messages": user(PART), "chat_template": FLAT}, "messages", "reads texts only"),
    (
        "too large an image",
        {"messages": user(PART), "mm_processor_kwargs": {"min_pixels": 2**31, "max_pixels": 2**32 - 1}},
        "messages",
        "over the limit of 256",
    ),
    ("an object without anything", {"input": [{}]}, "input", "input[0] has neither text nor image"),
    ("a wrong image of an object", {"input": ["a", {"image": "AAAA"}]}, "input[1].image", "input[1].image: "),
    ("a wrong option", {"input": [{"image": SQUARE}], "mm_processor_kwargs": {"fps": 2}}, "mm_processor_kwargs", "fps"),
    ("an option for texts", {"input": "a", "mm_processor_kwargs": {"fps": 2}}, "mm_processor_kwargs", "fps is not"),
    ("pieces of images", {"input": [{"image": SQUARE}], "max_embed_len": 300}, "max_embed_len", "input has images"),
    ("too many images", {"input": [{"image": SQUARE}] * 5}, "input[4].image", "--max-images allows 4"),
]


@pytest.mark.parametrize(("body", "param", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_wrong_is_named(vision: httpx.Client, body: dict[str, Any], param: str, message: str) -> None:
    error = checked(vision.post("/v1/embeddings", json=body), 400)
    assert error["param"] == param
    assert message in (error["message"] or "")


def test_tokens_of_an_immense_image_are_not_listed(vision: httpx.Client) -> None:
    options = {"min_pixels": 2**31, "max_pixels": 2**32 - 1}
    reply = vision.post("/tokenize", json={"messages": user(PART), "mm_processor_kwargs": options})
    assert reply.status_code == 400
    assert "33558849 of them of its 1 images" in reply.json()["error"]["message"]


def test_a_row_with_a_written_placeholder_spoils_no_other(vision: httpx.Client) -> None:
    rows = [{"text": f"a {PAD}"}, {"messages": user(PART)}, {"messages": user(text(PAD))}, {"text": "a"}]
    reply = vision.post("/v1/rows", json={"task": "embed", "rows": rows}).json()
    assert [each.get("error", {}).get("code") for each in reply["data"]] == ["reserved_text", None] * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"images": ["data:image/png;base64,AAAA"]}, "images[0]: "),
        ({"images": [SQUARE, 3]}, "images[1] is a whole number"),
        ({"images": SQUARE}, "images is a string; it must be a list"),
        ({"inputs": [{"content": [TEXT, {"type": "image_url", "image_url": "data:,a"}]}]}, "inputs[0].content[1]."),
        ({"inputs": [{"content": [text(PAD), PART]}]}, "which stands for an image"),
        ({"images": [SQUARE], "max_tokens": 9}, "images[0] has "),
        ({"images": [SQUARE], "mm_processor_kwargs": {"a": 1}}, "a is not among"),
        ({"images": [SQUARE], "texts": ["a"]}, "More than one of texts, inputs, images"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_coheres_images_is_named(vision: httpx.Client, body: dict[str, Any], message: str) -> None:
    reply = vision.post("/v2/embed", json={"input_type": "image", **body})
    assert reply.status_code == 400, reply.text
    assert message in reply.json()["message"]


def test_queries_and_documents_with_images_are_refused(vision: httpx.Client) -> None:
    error = vision.post("/v1/rerank", json={"query": "a", "documents": [{"image": SQUARE}]}).json()["error"]
    assert "documents[0] is an image, and only texts are compared" in error["message"]


# --- an image by itself


def test_an_image_by_itself_and_a_text_get_the_vectors_of_the_reference_in_every_dialect(
    towers: tuple[httpx.Client, list[dict[str, Any]]],
) -> None:
    client, known = towers
    images, texts = list[tuple[str, list[float]]](), list[tuple[str, list[float]]]()
    for each in known:
        content = each["messages"][0]["content"]
        if isinstance(content, str):
            texts.append((content, each["rows"][0]))
        else:
            images.append((content[0]["image"], each["rows"][0]))
    assert images
    assert texts
    names = [data_uri(name) for name, _ in images]
    of_images, of_texts = (np.array([row for _, row in group]) for group in (images, texts))
    given = [*({"image": each} for each in names), *(words for words, _ in texts)]
    assert_like(vectors(client, input=given), np.vstack([of_images, of_texts]))
    assert_like(np.array(cohere(client, input_type="image", images=names)["embeddings"]["float"]), of_images)
    for name, row in zip(names, of_images, strict=True):
        assert_like(vectors(client, messages=user({"type": "image", "image": name})), row)
    rows = client.post(
        "/v1/rows",
        json={"task": "embed", "rows": [{"messages": user({"type": "image", "image": each})} for each in names]},
    ).json()
    assert_like(np.array([each["embedding"] for each in rows["data"]]), of_images)


def test_an_image_with_a_text_is_refused_where_each_is_embedded_by_itself(
    towers: tuple[httpx.Client, list[dict[str, Any]]],
) -> None:
    client, _ = towers
    for body in ({"messages": user(PART, TEXT)}, {"input": [{"image": SQUARE, "text": "a"}]}):
        error = checked(client.post("/v1/embeddings", json=body), 400)
        assert error["code"] == "unsupported_content"
        assert "embeds an image by itself, and a text by itself" in (error["message"] or "")


# --- models of text alone


@pytest.mark.parametrize("path", ["/v1/chat/reward", "/pooling", "/tokenize"])
@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_a_model_of_text_alone_refuses_every_image(reward: httpx.Client, path: str, kind: str) -> None:
    body = {"messages": user(TEXT, {"type": kind, "image_url": SQUARE, "image": SQUARE})}
    reply = reward.post(path, json={**body, "mm_processor_kwargs": {"image_size": 224}})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "messages"
    assert "messages[0].content[1].image" in error["message"]
    assert "takes text only" in error["message"]


def test_a_model_of_text_alone_takes_text_as_before_whatever_it_says_of_images(
    client: httpx.Client, reward: httpx.Client
) -> None:
    error = checked(client.post("/v1/embeddings", json={"input": ["a", {"image": SQUARE}]}), 400)
    assert (error["param"], error["code"]) == ("input", "unsupported_content")
    options = {"mm_processor_kwargs": {"image_size": 224}}
    assert reward.post("/v1/chat/reward", json={"messages": user(TEXT), **options}).status_code == 200
    assert client.post("/v1/embeddings", json={"input": [{"text": "a"}, PAD], **options}).status_code == 200
