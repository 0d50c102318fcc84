"""Conversations with images become the reference's vectors, over real HTTP; images that are not taken are refused."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.api.media_host import MediaHost, media_host
from tests.end_to_end.errors import checked
from tests.end_to_end.job_calls import Caller
from tests.server import GOLDEN, Millpond, client_of, redis_of, serving

VISION = GOLDEN / "vision"
IMAGES = {path.name: path.read_bytes() for path in sorted((VISION / "images").glob("*.png"))}
LEAST_COSINE = 0.9999


@pytest.fixture(scope="module")
def host() -> Iterator[MediaHost]:
    """A host of the goldens' images."""
    with media_host(IMAGES) as running:
        yield running


@pytest.fixture(scope="module")
def server(host: MediaHost) -> Iterator[Millpond]:
    """A vision-language model, which may fetch images from that host."""
    allowed = ("--allowed-media-domains", f"127.0.0.1:{host.port}", "--max-images", "4", "--job-workers", "1")
    with serving(*allowed, model=VISION / "qwen2-vl") as running:
        yield running


@pytest.fixture
def client(server: Millpond) -> Iterator[httpx.Client]:
    """An HTTP client of it."""
    with client_of(server) as plain:
        yield plain


def data_uri(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode(IMAGES[name]).decode()


def part(url: str, form: str = "object") -> dict[str, Any]:
    """An image part in one of the forms in which clients send it."""
    match form:
        case "object":
            return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        case "text":
            return {"type": "image_url", "image_url": url}
        case "input":
            return {"type": "input_image", "image_url": url}
        case _:
            return {"type": "image", "image": url}


def sent(messages: list[dict[str, Any]], url: Any = data_uri, form: str = "object") -> list[dict[str, Any]]:
    """A golden's conversation with its images as URLs."""

    def content(given: Any) -> Any:
        if isinstance(given, str):
            return given
        return [part(url(each["image"]), form) if each["type"] == "image" else each for each in given]

    return [{**each, "content": content(each["content"])} for each in messages]


def embed(client: httpx.Client, messages: object, **fields: object) -> httpx.Response:
    return client.post("/v1/embeddings", json={"messages": messages, **fields})


def vector(reply: httpx.Response) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()["data"][0]["embedding"])


def known() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VISION / "qwen2-vl.expected.json").read_text("utf-8"))["inputs"]
    return found


def assert_like(found: np.ndarray, case: dict[str, Any]) -> None:
    wanted = np.array(case["rows"][0])
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) >= LEAST_COSINE


@pytest.mark.parametrize("case", known(), ids=range(len(known())))
def test_conversations_with_images_get_the_vectors_of_the_reference(client: httpx.Client, case: dict[str, Any]) -> None:
    reply = embed(client, sent(case["messages"]))
    assert_like(vector(reply), case)
    assert reply.json()["usage"]["prompt_tokens"] == len(case["ids"])


@pytest.mark.parametrize("form", ["object", "text", "input", "image"])
def test_an_image_is_taken_in_every_form_in_which_clients_send_it(
    client: httpx.Client, host: MediaHost, form: str
) -> None:
    assert_like(vector(embed(client, sent(known()[1]["messages"], host.url, form))), known()[1])


def test_an_image_that_is_named_twice_is_fetched_once(client: httpx.Client, host: MediaHost) -> None:
    before = host.asked["tiny.png"]
    assert_like(vector(embed(client, sent(known()[5]["messages"], host.url))), known()[5])
    assert host.asked["tiny.png"] == before + 1


def test_options_of_the_image_processor_change_the_number_of_tokens(client: httpx.Client) -> None:
    messages = sent(known()[1]["messages"])
    whole = embed(client, messages).json()["usage"]["prompt_tokens"]
    small = embed(client, messages, mm_processor_kwargs={"image_size": 16})
    assert small.status_code == 200, small.text
    assert small.json()["usage"]["prompt_tokens"] < whole
    assert vector(small).shape == vector(embed(client, messages)).shape


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image_size": "224"}, "image_size must be a whole number from 1 to 65536"),
        ({"longest": 3}, "longest is not among what this model's image processor takes: image_size, min_pixels"),
        ({"max_pixels": 10}, "an image would have at most 10 pixels, and one token takes 64"),
        ({"min_pixels": 900, "max_pixels": 800}, "at least 900 pixels and at most 800"),
        ({"size": {"height": 3}}, "size must be an object with shortest_edge and longest_edge"),
    ],
)
def test_options_that_are_wrong_are_refused_by_name(client: httpx.Client, options: object, said: str) -> None:
    error = checked(embed(client, sent(known()[1]["messages"]), mm_processor_kwargs=options), 400)
    assert error["param"] == "mm_processor_kwargs"
    assert said in error["message"]


def said_of(part: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part, {"type": "text", "text": "what is it"}]}]


@pytest.mark.parametrize(
    ("part", "param", "said"),
    [
        ({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, "messages", "is of type video_url"),
        ({"type": "input_audio", "input_audio": {}}, "messages", "is of type input_audio"),
        ({"type": "image_url", "image_url": {}}, "messages", "messages[0].content[0].image_url.url is null"),
        ({"type": "image_url", "image_url": 5}, "messages", "messages[0].content[0].image_url is a whole number"),
        ({"type": "image_url", "image_url": {"url": "x", "detail": "most"}}, "messages", "detail is 'most'"),
        (part("file:///etc/passwd"), "messages[0].content[0].image_url.url", "file"),
        (part("http://169.254.169.254/latest"), "messages[0].content[0].image_url.url", "--allowed-media-domains"),
        (part("data:image/png;base64,AAAA"), "messages[0].content[0].image_url.url", "image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_place(client: httpx.Client, part: object, param: str, said: str) -> None:
    error = checked(embed(client, said_of(part)), 400)
    assert error["param"] == param
    assert said in error["message"]


def test_a_text_beside_images_that_contains_what_stands_for_one_is_refused(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": [part(data_uri("tiny.png")), {"type": "text", "text": "a<|image_pad|>"}]}]
    assert checked(embed(client, messages), 400)["code"] == "reserved_text"


def test_too_many_images_are_refused(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": [part(data_uri("tiny.png"))] * 5}]
    assert "--max-images allows 4" in checked(embed(client, messages), 400)["message"]


def test_images_that_make_a_conversation_too_long_are_refused_and_not_cut(client: httpx.Client) -> None:
    messages = [
        {"role": "user", "content": [*[part(data_uri("square.png"))] * 4, {"type": "text", "text": "x " * 200}]}
    ]
    error = checked(embed(client, messages, truncate_prompt_tokens=-1), 400)
    assert error["code"] == "context_length_exceeded"
    assert "of its 4 images" in error["message"]
    assert "What has images is never cut" in error["message"]


def test_a_job_with_an_image_gives_the_same(server: Millpond, host: MediaHost) -> None:
    body = {"messages": sent(known()[1]["messages"], host.url)}
    caller = Caller(server)
    with caller.http:
        job = caller.submitted("/v1/embeddings", body)
        assert caller.ended(job)["status"] == "succeeded"
        assert_like(vector(caller.result(job)), known()[1])


def test_the_images_lie_in_redis_once(client: httpx.Client, server: Millpond) -> None:
    for _ in range(3):
        vector(embed(client, sent(known()[1]["messages"])))
    with redis_of(server) as redis:
        keys = [key.decode() for key in redis.keys("*}:blob:*")]
        assert len(keys) == len(set(keys)) <= len(IMAGES)
        sizes = next(iter(redis.keys("*}:blob-sizes")))
        assert int(redis.hget(sizes, "total")) == sum(redis.strlen(key) for key in keys)


def test_a_model_of_text_alone_refuses_images(host: MediaHost) -> None:
    with serving(model=GOLDEN / "families" / "qwen2") as running, client_of(running) as client:
        error = checked(client.post("/v1/embeddings", json={"messages": said_of(part(host.url("tiny.png")))}), 400)
        assert "takes text only" in error["message"] or "no chat template" in error["message"]


def test_the_server_is_ready_after_all_that(client: httpx.Client) -> None:
    assert client.get("/ready").status_code == 200


# CLIP: texts and images are sequences of their own, in one space.


@pytest.fixture(scope="module")
def clip() -> Iterator[httpx.Client]:
    """A model with a tower for texts and one for images."""
    with serving(model=VISION / "clip") as running, client_of(running) as plain:
        yield plain


def of_clip(kind: str) -> tuple[str, np.ndarray]:
    """A text, or an image's name, and its vector."""
    for case in json.loads((VISION / "clip.expected.json").read_text("utf-8"))["inputs"]:
        content = case["messages"][0]["content"]
        if kind == "text" and isinstance(content, str):
            return content, np.array(case["rows"][0])
        if kind == "image" and not isinstance(content, str):
            return content[0]["image"], np.array(case["rows"][0])
    raise LookupError(kind)


def assert_along(found: list[float], wanted: np.ndarray) -> None:
    assert np.array(found) @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) >= LEAST_COSINE


def test_jinas_documents_are_texts_and_images_in_one_call(clip: httpx.Client) -> None:
    (text, text_vector), (name, image_vector) = of_clip("text"), of_clip("image")
    bare = base64.b64encode(IMAGES[name]).decode()
    documents = [{"text": text}, {"image": data_uri(name)}, {"image": bare}, text]
    reply = clip.post("/v1/embeddings", json={"input": documents})
    assert reply.status_code == 200, reply.text
    for each, wanted in zip(reply.json()["data"], [text_vector, image_vector, image_vector, text_vector], strict=True):
        assert_along(each["embedding"], wanted)


def test_cohere_takes_images_and_inputs_of_parts(clip: httpx.Client) -> None:
    (text, text_vector), (name, image_vector) = of_clip("text"), of_clip("image")
    images = clip.post("/v2/embed", json={"images": [data_uri(name)], "input_type": "image"})
    assert images.status_code == 200, images.text
    assert_along(images.json()["embeddings"]["float"][0], image_vector)
    parts = [{"type": "image_url", "image_url": {"url": data_uri(name)}}, {"type": "text", "text": text}]
    inputs = clip.post("/v2/embed", json={"inputs": [{"content": [part]} for part in parts]})
    assert inputs.status_code == 200, inputs.text
    for found, wanted in zip(inputs.json()["embeddings"]["float"], [image_vector, text_vector], strict=True):
        assert_along(found, wanted)
    both = clip.post("/v2/embed", json={"inputs": [{"content": parts}]})
    assert both.status_code == 400
    assert "one text or one image" in both.json()["message"]


def test_infinitys_modality_and_a_message_with_an_image_alone(clip: httpx.Client) -> None:
    name, wanted = of_clip("image")
    infinity = clip.post("/v1/embeddings", json={"input": [data_uri(name)], "modality": "image"})
    alone = embed(clip, [{"role": "user", "content": [part(data_uri(name))]}])
    for reply in (infinity, alone):
        assert_along(list(vector(reply)), wanted)


def test_a_document_with_an_image_is_a_message_of_the_user(client: httpx.Client) -> None:
    whole = embed(client, [{"role": "user", "content": [part(data_uri("odd.png"))]}])
    document = client.post("/v1/embeddings", json={"input": [{"image": data_uri("odd.png")}]})
    np.testing.assert_allclose(vector(document), vector(whole), atol=1e-6)


def test_jinas_rerank_compares_a_text_with_images(clip: httpx.Client) -> None:
    (text, text_vector), (name, image_vector) = of_clip("text"), of_clip("image")
    documents = [{"image": data_uri(name)}, {"text": text}, text]
    reply = clip.post("/v1/rerank", json={"query": text, "documents": documents, "return_documents": True})
    assert reply.status_code == 200, reply.text
    results = {each["index"]: each for each in reply.json()["results"]}
    wanted = text_vector @ image_vector / np.linalg.norm(text_vector) / np.linalg.norm(image_vector)
    assert results[0]["relevance_score"] == pytest.approx(wanted, abs=1e-4)
    assert results[1]["relevance_score"] == pytest.approx(1, abs=1e-5)
    assert results[0]["document"] == {"image": data_uri(name)}
    assert results[1]["document"] == {"text": text}
