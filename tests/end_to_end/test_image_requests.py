"""What requests with images become, and what is refused of them, over real HTTP."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, client_of, serving

VISION = GOLDEN / "vision"
INPUTS = json.loads((VISION / "qwen2-vl.expected.json").read_text("utf-8"))["inputs"]
PLACEHOLDER, PAD = 5, "<|image_pad|>"
LONGEST = 256


def data_uri(name: str) -> str:
    """An image of the goldens."""
    return "data:image/png;base64," + base64.b64encode((VISION / "images" / name).read_bytes()).decode()


SQUARE = data_uri("square.png")
PART = {"type": "image_url", "image_url": {"url": SQUARE}}
TEXT = {"type": "text", "text": "how many ducks are there"}


BLIND = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
FLAT = "{% for m in messages %}{{ m.content + 'x' }}{% endfor %}"


def sent(part: dict[str, str]) -> dict[str, Any]:
    """A part of a golden's conversation as clients send it."""
    return {"type": "image_url", "image_url": {"url": data_uri(part["image"])}} if part["type"] == "image" else part


def conversation(known: dict[str, Any]) -> list[dict[str, Any]]:
    """A golden's conversation as clients send it."""
    return [
        {**each, "content": each["content"] if isinstance(each["content"], str) else [*map(sent, each["content"])]}
        for each in known["messages"]
    ]


def user(*parts: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.fixture(scope="module")
def vision() -> Iterator[httpx.Client]:
    """A tiny Qwen2-VL, which takes images."""
    options = ["--max-images", "4", "--max-request-bytes", "2000000", "--trust-request-chat-template"]
    with serving(*options, model=VISION / "qwen2-vl") as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A model of text alone that takes messages."""
    directory = made(golden_of("chat-reward"), tmp_path_factory.mktemp("text") / "reward")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def tokens(client: httpx.Client, messages: object, **fields: object) -> list[int]:
    reply = client.post("/tokenize", json={"messages": messages, "add_generation_prompt": False, **fields})
    assert reply.status_code == 200, reply.text
    found: list[int] = reply.json()["tokens"]
    return found


def refused(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, str | None]:
    return checked(client.post(path, json=body), 400)


@pytest.mark.parametrize("known", INPUTS, ids=range(len(INPUTS)))
def test_conversations_become_the_tokens_of_the_reference(vision: httpx.Client, known: dict[str, Any]) -> None:
    assert tokens(vision, conversation(known)) == known["ids"]


def test_rows_become_the_same_tokens_and_a_wrong_image_spoils_its_row_alone(vision: httpx.Client) -> None:
    broken = user({"type": "image_url", "image_url": "data:image/png;base64,AAAA"})
    many = user(*[PART] * 5)
    rows = [{"messages": each} for each in [*map(conversation, INPUTS), broken, user(TEXT), many]]
    rows.append({"text": f"a {PAD}"})
    reply = vision.post("/v1/rows", json={"task": "embed", "rows": rows, "render_only": True}).json()
    *good, bad, text, too_many, reserved = reply["data"]
    assert [each["tokens"] for each in good] == [len(known["ids"]) for known in INPUTS]
    assert good[1]["prompt"].count(PAD) == 1
    assert bad["error"]["param"] == "messages[0].content[0].image_url"
    assert bad["error"]["code"] == "invalid_image"
    assert text["tokens"] > 0
    assert too_many["error"]["code"] == "too_many_images"
    assert "--max-images allows 4" in too_many["error"]["message"]
    assert reserved["error"]["code"] == "reserved_token"


def test_options_of_the_processor_change_how_many_tokens_an_image_has(vision: httpx.Client) -> None:
    plain, small = (
        tokens(vision, user(PART), **fields).count(PLACEHOLDER)
        for fields in ({}, {"mm_processor_kwargs": {"max_pixels": 256, "min_pixels": 64}})
    )
    assert plain == 25
    assert small == 4


def test_a_wrong_option_is_named_with_those_that_there_are(vision: httpx.Client) -> None:
    for path, body in (
        ("/v1/embeddings", {"messages": user(PART)}),
        ("/v1/embeddings", {"input": ["a", {"image": SQUARE}]}),
        ("/v1/embeddings", {"input": "a"}),
        ("/pooling", {"messages": user(TEXT)}),
    ):
        body = {**body, "mm_processor_kwargs": {"fps": 2}}
        error = vision.post(path, json=body).json()["error"]
        assert error["param"] == "mm_processor_kwargs"
        assert "fps is not among what this model's image processor takes: image_size, min_pixels" in error["message"]


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("a video", {"messages": user({"type": "video_url"})}, "messages", "and this model takes text and images"),
    ("a written placeholder", {"messages": user({"type": "text", "text": PAD}, PART)}, "messages", "stands for an"),
    ("a written placeholder beside no image", {"messages": user({"type": "text", "text": PAD})}, "messages", "stands"),
    (
        "a placeholder in two parts",
        {"messages": user(*({"type": "text", "text": each} for each in ("<|image", "_pad|>")))},
        "messages",
        f"has the token {PLACEHOLDER}",
    ),
    (
        "two halves beside an image",
        {"messages": user(PART, {"type": "text", "text": "<|image"}, {"type": "text", "text": "_pad|>"})},
        "messages",
        "makes 2 places for images (<|image_pad|>) of 1 images",
    ),
    ("a placeholder as input", {"input": ["a", f"a {PAD}"]}, "input", "input[1] has the token 5"),
    ("a placeholder among ids", {"input": [1, PLACEHOLDER, 2]}, "input", "has the token 5 (<|image_pad|>)"),
    ("ids as messages", {"messages": [1, PLACEHOLDER]}, "messages", "messages has the token 5"),
    (
        "a placeholder in a variable",
        {"messages": user(PART), "chat_template_kwargs": {"a": [PAD]}},
        "chat_template_kwargs",
        "chat_template_kwargs.a[0] has",
    ),
    (
        "a template without images",
        {"messages": user(PART), "chat_template": BLIND},
        "messages",
        "of this request (chat_template) makes 0 places for images",
    ),
    (
        "a template of one text",
        {"messages": user(PART), "chat_template": FLAT},
        "messages",
        "reads content as one text, without images",
    ),
    (
        "an image to continue",
        {"messages": user(PART), "continue_final_message": True},
        "continue_final_message",
        "ends with an image",
    ),
    (
        "an image that is none",
        {"messages": user({"type": "image", "image": "data:,a"})},
        "messages[0].content[0].image",
        "messages[0].content[0].image: ",
    ),
    (
        "a forbidden address",
        {"messages": user({"type": "image", "image": "http://127.0.0.1/a.png"})},
        "messages[0].content[0].image",
        "127.0.0.1",
    ),
    ("too many images", {"messages": user(*[PART] * 5)}, "messages[0].content[4].image_url", "--max-images allows 4"),
    (
        "too many tokens",
        {"messages": user(PART, {"type": "text", "text": "water " * 250})},
        "messages",
        "before those of its images are counted, over the limit of 256",
    ),
    (
        "too many tokens by images",
        {"messages": user(*[PART] * 4, {"type": "text", "text": "water " * 60})},
        "messages",
        "100 of them for its images, over the limit of 256",
    ),
    (
        "too many tokens, though cut",
        {"messages": user(*[PART] * 4), "truncate_prompt_tokens": 50},
        "messages",
        "over the limit of 50",
    ),
    (
        "too large an image",
        {"messages": user(PART), "mm_processor_kwargs": {"min_pixels": 10**7, "max_pixels": 10**8}},
        "messages",
        "of them for its images, over the limit of 256",
    ),
    ("an object without anything", {"input": [{}]}, "input", "input[0] has neither text nor image"),
    ("a wrong image of an object", {"input": ["a", {"image": "AAAA"}]}, "input[1].image", "input[1].image: "),
    ("pieces of images", {"input": [{"image": SQUARE}], "max_embed_len": 300}, "max_embed_len", "input has images"),
]


@pytest.mark.parametrize(("body", "param", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_wrong_is_named(vision: httpx.Client, body: dict[str, Any], param: str, message: str) -> None:
    error = refused(vision, "/v1/embeddings", body)
    assert error["param"] == param
    assert message in (error["message"] or "")


def test_coheres_images_and_parts_are_read_and_named(vision: httpx.Client) -> None:
    for body, message in (
        ({"images": ["data:image/png;base64,AAAA"]}, "images[0]: "),
        ({"images": [SQUARE, 3]}, "images[1] is a whole number"),
        ({"inputs": [{"content": [TEXT, {"type": "image_url", "image_url": "data:,a"}]}]}, "inputs[0].content[1]."),
        ({"inputs": [{"content": [{"type": "text", "text": PAD}, PART]}]}, "which stands for an image"),
        ({"images": [SQUARE], "max_tokens": 9}, "images[0] has "),
        ({"images": [SQUARE], "mm_processor_kwargs": {"a": 1}}, "a is not among"),
        ({"images": [SQUARE], "texts": ["a"]}, "More than one of texts, inputs, images"),
    ):
        reply = vision.post("/v2/embed", json={"input_type": "image", **body})
        assert reply.status_code == 400, reply.text
        assert message in reply.json()["message"]


def test_a_text_is_embedded_alike_alone_in_an_object_and_among_texts(vision: httpx.Client) -> None:
    found = [
        vision.post("/v1/embeddings", json={"input": given, "encoding_format": "base64"}).json()["data"]
        for given in (["water", "a stone"], [{"text": "water"}, "a stone"], [{"text": "water"}, {"text": "a stone"}])
    ]
    assert found[0] == found[1] == found[2]


def test_queries_and_documents_with_images_are_refused(vision: httpx.Client) -> None:
    error = vision.post("/v1/rerank", json={"query": "a", "documents": [{"image": SQUARE}]}).json()["error"]
    assert "documents[0] is an image, and only texts are compared" in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/reward", "/pooling", "/tokenize"])
@pytest.mark.parametrize("kind", ["image_url", "input_image", "image", "video_url", "input_audio", "file"])
def test_a_model_of_text_alone_refuses_everything_else(reward: httpx.Client, path: str, kind: str) -> None:
    body = {"messages": user(TEXT, {"type": kind, "image_url": SQUARE, "image": SQUARE})}
    reply = reward.post(path, json={**body, "mm_processor_kwargs": {"image_size": 224}})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "messages"
    assert f"messages[0].content[1] is of type {kind}, and this model takes text only" in error["message"]


def test_a_model_of_text_alone_takes_text_as_before_whatever_it_says_of_images(
    client: httpx.Client, reward: httpx.Client
) -> None:
    error = refused(client, "/v1/embeddings", {"input": ["a", {"image": SQUARE}]})
    assert (error["param"], error["code"]) == ("input", "unsupported_content")
    options = {"mm_processor_kwargs": {"image_size": 224}}
    assert reward.post("/v1/chat/reward", json={"messages": user(TEXT), **options}).status_code == 200
    assert client.post("/v1/embeddings", json={"input": [{"text": "a"}, PAD], **options}).status_code == 200


def test_images_below_a_directory_are_read_where_that_is_allowed(tmp_path: Path) -> None:
    allowed = ["--allowed-local-media-path", str(VISION / "images")]
    with serving(*allowed, model=VISION / "qwen2-vl") as server, client_of(server) as client:
        url = f"file://{VISION / 'images' / 'odd.png'}"
        found = tokens(client, user({"type": "input_image", "image_url": url, "detail": "low"}))
        assert found == tokens(client, user({"type": "image", "image": data_uri("odd.png")}))
