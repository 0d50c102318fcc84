"""vLLM's routes over real HTTP: pooling by task, classification, and scores of pairs."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, client_of, serving

FAMILIES = GOLDEN / "families"
LARGEST_DIFFERENCE = 1e-4
TEXTS = ["The mill pond stores water.", "rain"]

OUTCOME = golden_of("chat-reward")
CROSS = golden_of("cross-encoder")
LABELLED = [
    each
    for each in json.loads((FAMILIES / "bert-classifier.expected.json").read_text("utf-8"))["inputs"]
    if isinstance(each["text"], str)
]
SHEPHERD = json.loads((FAMILIES / "math-shepherd.expected.json").read_text("utf-8"))

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def classifier() -> Iterator[httpx.Client]:
    """A BERT with three labels."""
    with serving(model=FAMILIES / "bert-classifier") as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A reward model with a chat template: one score for a conversation."""
    directory = made(OUTCOME, tmp_path_factory.mktemp("outcome") / "reward")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A BERT with one label that states no activation."""
    directory = made(CROSS, tmp_path_factory.mktemp("cross") / "reranker")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def pool(client: httpx.Client, given: object, **fields: object) -> list[Rows]:
    reply = post(client, "/pooling", {"input": given, **fields})
    return [np.asarray(each["data"], dtype=np.float32) for each in reply["data"]]


def framed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], Rows]:
    """A frame's header and numbers."""
    content = client.post(path, json=body, headers={"Accept": "application/octet-stream"}).content
    length = int.from_bytes(content[4:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, np.frombuffer(content[8 + length :], "<f4").reshape(header["shape"])


def embeddings(client: httpx.Client, given: object, **fields: object) -> Rows:
    reply = post(client, "/v1/embeddings", {"input": given, **fields})
    return np.asarray([each["embedding"] for each in reply["data"]], dtype=np.float32)


def refused(reply: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of a reply, in vLLM's form."""
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert error["type"] == ("NotFoundError" if status == 404 else "BadRequestError")
    return error


def assert_close(found: object, wanted: object) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=0, atol=LARGEST_DIFFERENCE)


def softmax(rows: Rows) -> Rows:
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def test_pooled_embeddings_are_those_of_the_other_route(client: httpx.Client) -> None:
    assert_close(pool(client, TEXTS), embeddings(client, TEXTS))
    assert_close(pool(client, TEXTS, task="embed", use_activation=False), embeddings(client, TEXTS, normalize=False))
    assert_close(pool(client, [2, 40, 3], normalize=True), embeddings(client, [2, 40, 3]))


def test_the_reply_has_vllms_form_and_says_what_was_done(client: httpx.Client) -> None:
    reply = post(client, "/pooling", {"input": "rain", "model": "", "cache_salt": "x", "padding": "do_not_pad"})
    assert re.fullmatch("pool-[0-9a-f]{32}", reply["id"])
    assert (reply["object"], reply["model"]) == ("list", "tiny-bert")
    assert (reply["task"], reply["pooling"], reply["activation"]) == ("embed", "MEAN", None)
    (data,) = reply["data"]
    assert (data["index"], data["object"]) == (0, "pooling")
    assert set(data) == {"index", "object", "data"}
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 0
    assert post(client, "/pooling", {"input": "rain", "request_id": "mine"})["id"] == "mine"


def test_token_vectors_have_the_embedding_as_their_mean(client: httpx.Client) -> None:
    counts = [len(post(client, "/tokenize", {"prompt": text})["tokens"]) for text in TEXTS]
    raw = pool(client, TEXTS, task="token_embed", use_activation=False)
    assert [len(rows) for rows in raw] == counts
    assert_close([rows.mean(axis=0) for rows in raw], embeddings(client, TEXTS, normalize=False))
    for rows in pool(client, TEXTS, task="token_embed"):
        assert_close(np.linalg.norm(rows, axis=-1), np.ones(len(rows)))


@pytest.mark.parametrize("task", ["embed", "token_embed"])
@pytest.mark.parametrize(("dtype", "kind"), [("float32", "f4"), ("float16", "f2")])
@pytest.mark.parametrize(("endianness", "order"), [("native", "<"), ("little", "<"), ("big", ">")])
def test_numbers_come_as_base64_and_as_bytes(
    client: httpx.Client, task: str, dtype: str, kind: str, endianness: str, order: str
) -> None:
    wanted = pool(client, TEXTS, task=task)
    fields = {"task": task, "embed_dtype": dtype, "endianness": endianness}
    data = post(client, "/pooling", {"input": TEXTS, "encoding_format": "base64", **fields})["data"]
    for each, rows in zip(data, wanted, strict=True):
        found = np.frombuffer(base64.b64decode(each["data"]), f"{order}{kind}").reshape(rows.shape)
        np.testing.assert_allclose(found, rows, atol=1e-3)
    reply = client.post("/pooling", json={"input": TEXTS, "encoding_format": "bytes", **fields})
    metadata = json.loads(reply.headers["metadata"])
    assert metadata["model"] == "tiny-bert"
    assert metadata["data"][-1]["end"] == len(reply.content)
    bare = client.post("/pooling", json={"input": TEXTS, "encoding_format": "bytes_only", **fields})
    assert "metadata" not in bare.headers
    assert len(bare.content) == len(reply.content)
    for described, rows in zip(metadata["data"], wanted, strict=True):
        assert described["embed_dtype"] == dtype
        assert described["endianness"] == ("big" if endianness == "big" else "little")
        for content in (reply.content, bare.content):
            part = np.frombuffer(content[described["start"] : described["end"]], f"{order}{kind}")
            np.testing.assert_allclose(part.reshape(described["shape"]), rows, atol=1e-3)


def test_a_description_that_fits_no_header_is_refused_and_bytes_alone_are_not(client: httpx.Client) -> None:
    body = {"input": ["rain"] * 200, "encoding_format": "bytes"}
    error = refused(client.post("/pooling", json=body))
    assert error["param"] == "encoding_format"
    assert "200 do not fit" in error["message"]
    assert len(client.post("/pooling", json={**body, "encoding_format": "bytes_only"}).content) == 200 * 48 * 4


def test_a_frame_carries_the_rows_of_all_inputs(client: httpx.Client) -> None:
    wanted = np.vstack(pool(client, TEXTS, task="token_embed"))
    header, rows = framed(client, "/pooling", {"input": TEXTS, "task": "token_embed"})
    assert sum(header["counts"]) == len(wanted)
    assert_close(rows, wanted)


def test_labels_have_the_probabilities_of_the_reference(classifier: httpx.Client) -> None:
    texts = [each["text"] for each in LABELLED]
    logits = np.asarray([each["rows"][0] for each in LABELLED], dtype=np.float32)
    reply = post(classifier, "/classify", {"input": texts})
    assert_close([each["probs"] for each in reply["data"]], softmax(logits))
    assert [each["label"] for each in reply["data"]] == [f"LABEL_{number}" for number in logits.argmax(axis=1)]
    assert {each["num_classes"] for each in reply["data"]} == {3}
    assert [each["index"] for each in reply["data"]] == list(range(len(texts)))
    assert (reply["object"], reply["activation"]) == ("list", "softmax")
    assert re.fullmatch("classify-[0-9a-f]{32}", reply["id"])
    raw = post(classifier, "/classify", {"input": texts, "use_activation": False})
    assert_close([each["probs"] for each in raw["data"]], logits)
    assert raw["activation"] == "none"
    assert_close(pool(classifier, texts), softmax(logits))
    ids = post(classifier, "/classify", {"input": [each["ids"] for each in LABELLED]})
    assert_close([each["probs"] for each in ids["data"]], softmax(logits))


def test_the_first_of_a_classifiers_tokens_is_the_one_that_labels_the_text(classifier: httpx.Client) -> None:
    text = "The mill pond stores water."
    (rows,) = pool(classifier, text, task="token_classify")
    (whole,) = pool(classifier, text, task="classify")
    assert len(rows) == len(post(classifier, "/tokenize", {"prompt": text})["tokens"])
    assert_close(rows[0], whole)


def test_one_label_gets_a_sigmoid_and_a_problem_type_is_heeded(
    cross: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = post(cross, "/classify", {"input": "rain", "use_activation": False})["data"][0]
    reply = post(cross, "/classify", {"input": "rain"})
    assert_close(reply["data"][0]["probs"], 1 / (1 + np.exp(-np.asarray(raw["probs"]))))
    assert (reply["activation"], reply["data"][0]["label"]) == ("sigmoid", "LABEL_0")
    logits = np.asarray(LABELLED[1]["rows"], dtype=np.float32)
    for problem, wanted in (("multi_label_classification", 1 / (1 + np.exp(-logits))), ("regression", logits)):
        golden = {
            "from": "families/bert-classifier",
            "changes": {"config.json": {"problem_type": problem}},
            "files": {},
        }
        directory = made(golden, tmp_path_factory.mktemp(problem) / "classifier")
        with serving(model=directory) as server, client_of(server) as client:
            reply = post(client, "/classify", {"input": LABELLED[1]["text"]})
            assert_close([reply["data"][0]["probs"]], wanted)


def test_a_reward_is_raw_unless_it_is_asked_to_be_otherwise(outcome: httpx.Client) -> None:
    case = OUTCOME["cases"][0]
    body = {"messages": case["messages"]}
    reply = post(outcome, "/pooling", body)
    assert_close(reply["data"][0]["data"], case["score"])
    assert (reply["task"], reply["pooling"], reply["activation"]) == ("classify", "LAST", "none")
    assert reply["usage"]["prompt_tokens"] == len(case["ids"])
    activated = post(outcome, "/pooling", {**body, "use_activation": True})
    assert_close(activated["data"][0]["data"], 1 / (1 + np.exp(-np.asarray(case["score"]))))
    by_token = post(outcome, "/pooling", {**body, "task": "token_classify"})["data"][0]["data"]
    assert len(by_token) == len(case["ids"])
    assert_close(by_token[-1], case["score"])


def test_each_step_has_the_probabilities_of_both_tokens() -> None:
    with (
        serving(
            "--pooler-config", json.dumps(SHEPHERD["options"]["pooler_config"]), model=FAMILIES / "math-shepherd"
        ) as server,
        client_of(server) as client,
    ):
        known = SHEPHERD["inputs"]
        found = pool(client, [each["ids"] for each in known])
        for rows, each in zip(found, known, strict=True):
            good = np.asarray(each["rows"])
            assert_close(rows, np.hstack([good, 1 - good]))
        (rows,) = pool(client, [5, 6])
        assert rows.tolist() == []
        body = {"input": known[0]["ids"], "use_activation": False}
        assert refused(client.post("/pooling", json=body))["param"] == "use_activation"
        error = refused(client.post("/pooling", json={"input": known[0]["ids"], "task": "classify"}))
        assert "ask for token_classify" in error["message"]


@pytest.mark.parametrize(
    "form", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")]
)
def test_a_text_is_scored_with_each_of_others(cross: httpx.Client, form: tuple[str, str]) -> None:
    for path in ("/score", "/v1/score"):
        reply = post(cross, path, {form[0]: CROSS["query"], form[1]: CROSS["documents"]})
        assert_close([each["score"] for each in reply["data"]], CROSS["relevance"])
        assert [(each["index"], each["object"]) for each in reply["data"]] == [(n, "score") for n in range(4)]
        assert (reply["activation"], reply["usage"]["prompt_tokens"]) == ("sigmoid", CROSS["tokens"])


def test_texts_are_scored_pair_by_pair(cross: httpx.Client) -> None:
    parts = [{"content": [{"type": "text", "text": text}]} for text in CROSS["documents"]]
    for queries in ([CROSS["query"]] * 4, [CROSS["query"]], {"content": [{"type": "text", "text": CROSS["query"]}]}):
        reply = post(cross, "/score", {"queries": queries, "documents": parts, "use_activation": False})
        assert_close([each["score"] for each in reply["data"]], CROSS["raw"])
        assert reply["activation"] == "none"
    one = post(cross, "/score", {"text_1": CROSS["query"], "text_2": CROSS["documents"][2]})
    assert_close([each["score"] for each in one["data"]], CROSS["relevance"][2:3])


def test_scores_come_as_a_frame_too(cross: httpx.Client) -> None:
    header, scores = framed(cross, "/score", {"queries": CROSS["query"], "documents": CROSS["documents"]})
    assert_close(scores, CROSS["relevance"])
    assert (header["activation"], header["usage"]["prompt_tokens"]) == ("sigmoid", CROSS["tokens"])


@pytest.mark.parametrize("golden", [golden_of("qwen3-reranker"), golden_of("template-reranker")])
def test_an_instruction_takes_the_place_of_the_checkpoints_own(
    golden: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = made(golden, tmp_path_factory.mktemp("instructed") / "reranker")
    own = (
        "is it wet?"
        if golden["files"]
        else "Given a web search query, retrieve relevant passages that answer the query"
    )
    options = ["--pooler-config", json.dumps(golden["pooler_config"])]
    with serving(*options, model=directory) as server, client_of(server) as client:
        body = {"queries": golden["query"], "documents": golden["documents"]}
        plain, same, other = (
            [each["score"] for each in post(client, "/score", {**body, **more})["data"]]
            for more in ({}, {"instruction": own}, {"instruction": "is it dry, or is it the other way round?"})
        )
        assert_close(plain, golden.get("relevance", golden.get("raw")))
        assert_close(same, plain)
        assert np.abs(np.asarray(other) - plain).max() > LARGEST_DIFFERENCE


def test_embeddings_are_scored_by_their_cosine(client: httpx.Client) -> None:
    vectors = embeddings(client, TEXTS)
    reply = post(client, "/score", {"text_1": TEXTS, "text_2": TEXTS[::-1]})
    assert_close([each["score"] for each in reply["data"]], [float(vectors[0] @ vectors[1])] * 2)
    assert reply["activation"] == "cosine"


def test_queries_and_documents_are_cut_where_that_is_asked_for_and_the_header_counts(client: httpx.Client) -> None:
    wanted = post(client, "/score", {"text_1": "the mill", "text_2": "the"})["data"]
    body = {"text_1": "the mill pond", "text_2": "the river", "max_tokens_per_query": 2, "max_tokens_per_doc": 1}
    reply = client.post("/score", json=body)
    assert_close([each["score"] for each in reply.json()["data"]], [each["score"] for each in wanted])
    assert reply.headers["millpond-truncated-inputs"] == "2"


def test_long_inputs_are_refused_or_cut(classifier: httpx.Client, cross: httpx.Client) -> None:
    long = "water " * 100
    for path in ("/pooling", "/classify"):
        error = refused(classifier.post(path, json={"input": long}))
        assert "tokens, over this model's 48 (--max-model-len)" in error["message"]
        for side in ("left", "right"):
            body = {"input": long, "truncate_prompt_tokens": -1, "truncation_side": side}
            reply = classifier.post(path, json=body)
            assert reply.json()["usage"]["prompt_tokens"] == 48
            assert reply.headers["millpond-truncated-inputs"] == "1"
    error = refused(cross.post("/score", json={"text_1": "a", "text_2": ["b", long]}))
    assert "text_2[1] with the text_1 has" in error["message"]
    reply = cross.post("/score", json={"text_1": "a", "text_2": ["b", long], "truncate_prompt_tokens": -1})
    assert reply.headers["millpond-truncated-inputs"] == "1"


BAD: list[tuple[str, dict[str, object], str, str]] = [
    ("/pooling", {}, "input", "Neither input nor messages"),
    ("/pooling", {"input": "a", "messages": [1]}, "messages", "Both input and messages"),
    ("/pooling", {"input": []}, "input", "empty list"),
    ("/pooling", {"input": ["a"] * 2049}, "input", "over the 2048 of one call"),
    ("/pooling", {"input": "a", "task": "plugin"}, "task", "must be one of embed, classify, token_embed"),
    ("/pooling", {"input": "a", "task": "score"}, "task", "send classify"),
    ("/pooling", {"input": "a", "task": ["embed"]}, "task", "is not served"),
    ("/pooling", {"input": "a", "task": "classify"}, "model", "is served for embed"),
    ("/pooling", {"input": "a", "dimensions": 3}, "dimensions", "not trained to be shortened"),
    ("/pooling", {"input": "a", "task": "token_embed", "dimensions": 3}, "dimensions", "not trained to be shortened"),
    ("/pooling", {"input": "a", "dimensions": 10**30}, "dimensions", "valid integer"),
    ("/pooling", {"input": "a", "normalize": True, "use_activation": False}, "normalize", "contradict"),
    ("/pooling", {"input": "a", "activation": False}, "activation", "use_activation now"),
    ("/pooling", {"input": "a", "padding": "max_length"}, "padding", "never padded"),
    ("/pooling", {"input": "a", "embed_dtype": "fp8_e4m3"}, "embed_dtype", "'float32' or 'float16'"),
    ("/pooling", {"input": "a", "encoding_format": "hex"}, "encoding_format", "'base64'"),
    ("/pooling", {"messages": [{"role": "user", "content": "a"}]}, "messages", "no chat template"),
    ("/classify", {"input": "a"}, "model", "not for classify or score"),
    ("/score", {"text_1": "a"}, "text_1", "There are text_1; send queries and documents or"),
    ("/score", {}, "queries", "There are no texts"),
    ("/score", {"text_1": "a", "documents": "b"}, "documents", "There are documents, text_1; send"),
    ("/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "text_1", "text_1 has 2 texts and text_2 3"),
    ("/score", {"text_1": "a", "text_2": []}, "text_2", "empty list"),
    ("/score", {"text_1": "a", "text_2": ["a"] * 2049}, "text_2", "over the 2048"),
    ("/score", {"text_1": "a", "text_2": ["a", ""]}, "text_2", r"text_2\[1\] is an empty string"),
    ("/score", {"text_1": "a", "text_2": [3]}, "text_2", r"text_2\[0\] is a whole number"),
    ("/score", {"text_1": {"content": "a"}, "text_2": "b"}, "text_1", "text_1.content is a string"),
    ("/score", {"text_1": {"content": [{"type": "text"}] * 2}, "text_2": "b"}, "text_1", "has 2 parts"),
    ("/score", {"text_1": {"content": [{"type": "image_url"}]}, "text_2": "b"}, "text_1", "of type 'image_url'"),
    ("/score", {"text_1": "a", "text_2": "b", "instruction": "c"}, "instruction", "has no place in what tiny-bert"),
    ("/score", {"text_1": "a", "text_2": "b", "truncation_side": "left"}, "truncation_side", "document's end is cut"),
    ("/score", {"text_1": "a", "text_2": "b", "max_tokens_per_doc": -1}, "max_tokens_per_doc", "greater than"),
]


@pytest.mark.parametrize(("path", "body", "param", "message"), BAD)
def test_a_wrong_field_is_named(
    client: httpx.Client, path: str, body: dict[str, object], param: str, message: str
) -> None:
    error = refused(client.post(path, json=body))
    assert error["param"] == param
    assert re.search(message, error["message"]), error


def test_other_errors_have_vllms_form_too(client: httpx.Client, classifier: httpx.Client) -> None:
    assert "no model 'other'" in refused(client.post("/pooling", json={"input": "a", "model": "other"}), 404)["message"]
    assert refused(client.post("/score", content=b"{"))["message"].startswith("The body is not JSON")
    assert refused(client.post("/classify", json=[]))["message"] == "The body must be a JSON object."
    body = {"input": "a", "dimensions": 3}
    assert "scores are never cut" in refused(classifier.post("/pooling", json=body))["message"]
    body = {"input": "a", "normalize": True}
    assert "normalize is for embeddings" in refused(classifier.post("/pooling", json=body))["message"]


def test_the_version_is_told(client: httpx.Client) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", client.get("/version").json()["version"])
