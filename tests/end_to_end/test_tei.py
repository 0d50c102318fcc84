"""text-embeddings-inference's clients get its replies, and the numbers of the routes that are checked elsewhere."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient

from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, Millpond, client_of, serving

LARGEST_DIFFERENCE = 1e-4
TEXTS = ["water and wheels", "a stone", "The mill pond stores water."]

PROMPTS = golden_of("prompts")
CROSS = golden_of("cross-encoder")
CLASSIFIER = GOLDEN / "families" / "bert-classifier"
KNOWN_SCORES = json.loads((GOLDEN / "families" / "bert-classifier.expected.json").read_text("utf-8"))["inputs"]


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A cross encoder with one label."""
    directory = made(CROSS, tmp_path_factory.mktemp("tei") / "reranker")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def labelling() -> Iterator[Millpond]:
    """A classifier with three labels."""
    with serving(model=CLASSIFIER) as server:
        yield server


@pytest.fixture(scope="module")
def classifier(labelling: Millpond) -> Iterator[httpx.Client]:
    """A client of the classifier."""
    with client_of(labelling) as client:
        yield client


def answer(client: httpx.Client, path: str, **body: object) -> Any:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def refusal(client: httpx.Client, path: str, status: int, kind: str, **body: object) -> str:
    reply = client.post(path, json=body)
    assert reply.status_code == status, reply.text
    error = reply.json()
    assert set(error) == {"error", "error_type"}
    assert error["error_type"] == kind
    message: str = error["error"]
    return message


def openai_vectors(client: httpx.Client, inputs: object, **fields: object) -> np.ndarray:
    return np.asarray([each["embedding"] for each in answer(client, "/v1/embeddings", input=inputs, **fields)["data"]])


def ids_of(client: httpx.Client, text: str) -> list[int]:
    return [each["id"] for each in answer(client, "/tokenize", inputs=text)[0]]


def softmax(rows: list[list[float]]) -> np.ndarray:
    powers = np.exp(np.asarray(rows))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def assert_close(found: object, wanted: object) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=0, atol=LARGEST_DIFFERENCE)


def test_embed_gives_the_vectors_of_the_openai_route_always_as_a_list(client: httpx.Client) -> None:
    wanted = openai_vectors(client, TEXTS)
    assert_close(answer(client, "/embed", inputs=TEXTS), wanted)
    assert_close(answer(client, "/embed", inputs=TEXTS[0]), wanted[:1])
    assert_close(answer(client, "/embed", inputs=TEXTS[0], dimensions=48, encoding_format="float"), wanted[:1])
    for name in ("tiny-bert", "default", "", None):
        assert_close(answer(client, "/embed", inputs=TEXTS[0], model=name), wanted[:1])


def test_texts_and_token_ids_may_be_mixed(client: httpx.Client) -> None:
    wanted = openai_vectors(client, TEXTS)
    ids = ids_of(client, TEXTS[1])
    assert_close(answer(client, "/embed", inputs=[TEXTS[0], ids, TEXTS[2]]), wanted)
    assert_close(answer(client, "/embed", inputs=[ids, ids]), wanted[[1, 1]])
    assert_close(answer(client, "/embed", inputs=ids), wanted[1:2])


def test_normalize_is_true_when_nothing_is_said(client: httpx.Client) -> None:
    assert_close(np.linalg.norm(answer(client, "/embed", inputs=TEXTS), axis=1), [1, 1, 1])
    assert_close(
        answer(client, "/embed", inputs=TEXTS, normalize=False), openai_vectors(client, TEXTS, normalize=False)
    )


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
def test_vectors_come_as_a_frame_too(client: httpx.Client, path: str) -> None:
    content = client.post(path, json={"inputs": TEXTS}, headers={"Accept": "application/octet-stream"}).content
    length = int.from_bytes(content[4:8], "little")
    header = json.loads(content[8 : 8 + length])
    rows = np.frombuffer(content[8 + length :], "<f4").reshape(header["shape"])
    wanted = answer(client, path, inputs=TEXTS)
    if path == "/embed_all":
        assert header["counts"] == [len(each) for each in wanted]
        wanted = np.vstack(wanted)
    assert np.allclose(rows, wanted, atol=LARGEST_DIFFERENCE)


def test_embed_all_gives_each_tokens_vector_as_it_is(client: httpx.Client) -> None:
    rows = [np.asarray(each) for each in answer(client, "/embed_all", inputs=TEXTS)]
    assert [each.shape for each in rows] == [(len(ids_of(client, text)), 48) for text in TEXTS]
    # This model's own vector is the mean of its tokens', before it is normalized.
    assert_close([each.mean(axis=0) for each in rows], openai_vectors(client, TEXTS, normalize=False))
    assert len(answer(client, "/embed_all", inputs=TEXTS[0])) == 1


def test_similarity_is_the_cosine(client: httpx.Client) -> None:
    vectors = openai_vectors(client, TEXTS)
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    found = answer(client, "/similarity", inputs=inputs, parameters={"truncate": True, "truncation_direction": "left"})
    assert_close(found, vectors @ vectors[0])
    assert_close(answer(client, "/similarity", inputs=inputs), found)


def test_prompts_are_chosen_by_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = made(PROMPTS, tmp_path_factory.mktemp("tei") / "prompts")
    with serving(model=directory) as server, client_of(server) as client:
        text = PROMPTS["texts"][0]
        wanted = openai_vectors(client, [text], prompt_name="query")
        assert_close(answer(client, "/embed", inputs=text, prompt_name="query"), wanted)
        assert_close(answer(client, "/embed", inputs=text), openai_vectors(client, [text]))
        same = {"source_sentence": text, "sentences": [text, "a stone"]}
        one = answer(client, "/similarity", inputs=same, parameters={"prompt_name": "query"})
        other = openai_vectors(client, ["a stone"], prompt_name="query")
        assert_close(one, [1, wanted[0] @ other[0]])
        assert "its prompts are" in refusal(client, "/embed", 422, "Validation", inputs=text, prompt_name="x")
        message = refusal(client, "/embed", 422, "Validation", inputs=ids_of(client, text), prompt_name="query")
        assert "token ids" in message


def test_texts_that_are_too_long_are_refused_or_cut_on_the_side_that_is_asked(client: httpx.Client) -> None:
    limit = client.get("/info").json()["max_input_length"]
    words = ["b", *["a"] * limit, "c"]
    long = " ".join(words)
    message = refusal(client, "/embed", 422, "Validation", inputs=["a", long])
    assert message.startswith("inputs[1] has") and '"truncate": true' in message
    for path in ("/embed", "/embed_all"):
        assert refusal(client, path, 422, "Validation", inputs=long, truncate=False)
    mixed = [[5], long, "a " * 100_000]
    assert f"inputs[1] has {limit + 4} tokens, over" in refusal(client, "/embed", 422, "Validation", inputs=mixed)
    message = refusal(client, "/embed", 422, "Validation", inputs=mixed[::2])
    assert re.match(r"inputs\[1\] has \d+ tokens or more", message)
    assert len(answer(client, "/embed", inputs=mixed, truncate=True)) == 3
    for direction, kept in (("Right", words[: limit - 2]), ("left", words[-(limit - 2) :])):
        reply = client.post("/embed", json={"inputs": long, "truncate": True, "truncation_direction": direction})
        assert_close(reply.json(), openai_vectors(client, " ".join(kept)))
        assert reply.headers["millpond-truncated-inputs"] == "1"
    sentences = {"source_sentence": "a", "sentences": ["a", long]}
    assert "sentences[1]" in refusal(client, "/similarity", 422, "Validation", inputs=sentences)
    assert len(answer(client, "/similarity", inputs=sentences, parameters={"truncate": True})) == 2


def test_rerank_gives_the_cross_encoders_relevance_the_best_first(cross: httpx.Client) -> None:
    body = {"query": CROSS["query"], "texts": CROSS["documents"]}
    ranks = answer(cross, "/rerank", **body)
    order = np.argsort(-np.asarray(CROSS["relevance"])).tolist()
    assert [each["index"] for each in ranks] == order
    assert_close([each["score"] for each in ranks], np.asarray(CROSS["relevance"])[order])
    assert all(set(each) == {"index", "score"} for each in ranks)
    raw = answer(cross, "/rerank", **body, raw_scores=True, return_text=True)
    assert_close([each["score"] for each in raw], np.asarray(CROSS["raw"])[order])
    assert [each["text"] for each in raw] == [CROSS["documents"][index] for index in order]


def test_rerank_answers_documents_as_v1_rerank_does_and_each_dialect_reads_its_own_errors(cross: httpx.Client) -> None:
    body = {"query": CROSS["query"], "documents": CROSS["documents"], "request_id": "one"}
    assert answer(cross, "/rerank", **body) == answer(cross, "/v1/rerank", **body)
    assert cross.post("/rerank", json={**body, "documents": []}).json()["error"]["param"] == "documents"
    assert "texts is an empty list" in refusal(cross, "/rerank", 400, "Empty", query="a", texts=[])
    assert "texts" in refusal(cross, "/rerank", 422, "Validation", query="a")


def test_a_text_that_is_too_long_beside_its_query_is_refused_or_cut(cross: httpx.Client) -> None:
    body = {"query": CROSS["query"], "texts": ["a", CROSS["cut"]["document"]]}
    assert "texts[1] with the query" in refusal(cross, "/rerank", 422, "Validation", **body)
    reply = cross.post("/rerank", json={**body, "truncate": True})
    assert_close(max(each["score"] for each in reply.json() if each["index"] == 1), CROSS["cut"]["relevance"])
    assert reply.headers["millpond-truncated-inputs"] == "1"
    left = refusal(cross, "/rerank", 422, "Validation", **body, truncate=True, truncation_direction="Left")
    assert "truncation_direction" in left


def test_an_embedding_model_ranks_by_likeness(client: httpx.Client) -> None:
    ranks = answer(client, "/rerank", query=TEXTS[0], texts=TEXTS)
    vectors = openai_vectors(client, TEXTS)
    assert ranks[0]["index"] == 0
    assert_close([each["score"] for each in ranks], sorted(vectors @ vectors[0], reverse=True))


def test_predict_gives_each_label_its_probability_the_highest_first(classifier: httpx.Client) -> None:
    known = KNOWN_SCORES[1]
    found = answer(classifier, "/predict", inputs=known["text"])
    wanted = softmax(known["rows"])[0]
    assert [each["label"] for each in found] == [f"LABEL_{n}" for n in np.argsort(-wanted)]
    assert_close([each["score"] for each in found], sorted(wanted, reverse=True))
    raw = answer(classifier, "/predict", inputs=[known["text"]], raw_scores=True)
    assert_close([each["score"] for each in raw], sorted(known["rows"][0], reverse=True))


def test_predict_takes_texts_and_pairs_in_one_call(classifier: httpx.Client) -> None:
    one, two = KNOWN_SCORES[1]["text"], KNOWN_SCORES[2]["text"]
    found = answer(classifier, "/predict", inputs=[[one], [one, two], [two]])
    assert len(found) == 3
    for index, single in ((0, one), (2, two)):
        alone = answer(classifier, "/predict", inputs=single)
        assert [each["label"] for each in found[index]] == [each["label"] for each in alone]
        assert_close([each["score"] for each in found[index]], [each["score"] for each in alone])
    pair = answer(classifier, "/predict", inputs=[one, two])
    assert [each["label"] for each in found[1]] == [each["label"] for each in pair]
    assert_close([each["score"] for each in found[1]], [each["score"] for each in pair])


def test_predict_of_a_cross_encoder_is_the_relevance_of_its_pair(cross: httpx.Client) -> None:
    pairs = [[CROSS["query"], document] for document in CROSS["documents"]]
    found = answer(cross, "/predict", inputs=pairs)
    assert_close([each["score"] for (each,) in found], CROSS["relevance"])
    raw = answer(cross, "/predict", inputs=pairs, raw_scores=True)
    assert_close([each["score"] for (each,) in raw], CROSS["raw"])
    long = [[CROSS["query"], CROSS["cut"]["document"]], ["water " * 60]]
    assert "inputs[0] has" in refusal(cross, "/predict", 422, "Validation", inputs=long)
    reply = cross.post("/predict", json={"inputs": long, "truncate": True})
    assert_close(reply.json()[0][0]["score"], CROSS["cut"]["relevance"])
    assert reply.headers["millpond-truncated-inputs"] == "2"
    far = refusal(cross, "/predict", 422, "Validation", inputs=[["a", "b"], ["a " * 100_000, "b"]])
    assert re.match(r"inputs\[1\] has \d+ tokens or more", far)
    left = refusal(cross, "/predict", 422, "Validation", inputs=long, truncate=True, truncation_direction="Left")
    assert "truncation_direction" in left
    full = refusal(cross, "/predict", 422, "Validation", inputs=[["water " * 60, "a stone"]], truncate=True)
    assert "leaves no room" in full


def test_hugging_faces_client_works_unchanged_with_vectors(server: Millpond, client: httpx.Client) -> None:
    hub = InferenceClient(model=server.url, provider="hf-inference")
    assert_close(hub.feature_extraction(TEXTS[0]), openai_vectors(client, TEXTS[:1]))
    raw = hub.feature_extraction(TEXTS[0], normalize=False, truncate=True, truncation_direction="left")
    assert_close(raw, openai_vectors(client, TEXTS[:1], normalize=False))
    vectors = openai_vectors(client, TEXTS)
    assert_close(hub.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:]), vectors[1:] @ vectors[0])
    assert hub.health_check()
    assert hub.get_endpoint_info()["model_id"] == "tiny-bert"


def test_hugging_faces_client_works_unchanged_with_labels(labelling: Millpond) -> None:
    hub = InferenceClient(model=labelling.url)
    known = KNOWN_SCORES[1]
    # The client takes the first of a list of lists, and is typed to return a list.
    found = hub.text_classification(known["text"])
    assert_close([each.score for each in found], sorted(softmax(known["rows"])[0], reverse=True))
    (best,) = hub.text_classification(known["text"], top_k=1, function_to_apply="none")
    assert_close(best.score, max(known["rows"][0]))
    sigmoid = hub.text_classification(known["text"], function_to_apply="sigmoid")
    assert_close([each.score for each in sigmoid], sorted(1 / (1 + np.exp(-np.asarray(known["rows"][0])))[::-1])[::-1])


def test_the_root_does_what_the_body_and_the_model_are_for(
    client: httpx.Client, classifier: httpx.Client, cross: httpx.Client
) -> None:
    for path in ("/", "/invocations"):
        assert_close(answer(client, path, inputs=TEXTS), openai_vectors(client, TEXTS))
        assert answer(classifier, path, inputs="a") == answer(classifier, "/predict", inputs="a")
        body = {"query": CROSS["query"], "texts": CROSS["documents"]}
        assert [each["index"] for each in answer(cross, path, **body)] == [
            each["index"] for each in answer(cross, "/rerank", **body)
        ]


def test_info_says_what_is_true(client: httpx.Client, classifier: httpx.Client, cross: httpx.Client) -> None:
    info = client.get("/info").json()
    assert (info["model_id"], info["model_dtype"]) == ("tiny-bert", "float32")
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_client_batch_size"], info["auto_truncate"]) == (2048, False)
    assert client.get("/info", params={"model": "tiny-bert"}).json() == info
    missing = client.get("/info", params={"model": "x"})
    assert (missing.status_code, missing.json()["error_type"]) == (404, "Validation")
    assert classifier.get("/info").json()["model_type"]["classifier"]["id2label"]["2"] == "LABEL_2"
    assert "reranker" in cross.get("/info").json()["model_type"]


def test_ping_answers_whatever_the_method(client: httpx.Client) -> None:
    assert client.get("/ping").status_code == client.post("/ping").status_code == 200


def test_replies_carry_the_headers_of_timings(client: httpx.Client) -> None:
    headers = client.post("/embed", json={"inputs": ["water", "a stone"]}).headers
    assert headers["x-compute-characters"] == "12"
    assert headers["x-compute-tokens"] == str(len(ids_of(client, "water")) + len(ids_of(client, "a stone")))
    for name in ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
        assert headers[name].isdecimal()


WRONG: list[tuple[str, str, dict[str, object], int, str, str]] = [
    ("no inputs", "/embed", {}, 422, "Validation", "inputs: Field required"),
    ("inputs of null", "/embed", {"inputs": None}, 422, "Validation", "inputs is null"),
    ("inputs of an object", "/embed", {"inputs": {"a": 1}}, 422, "Validation", "inputs is an object"),
    ("no text", "/embed", {"inputs": ""}, 400, "Empty", "inputs is an empty string"),
    ("an empty list", "/embed", {"inputs": []}, 400, "Empty", "inputs is an empty list"),
    ("an empty text", "/embed", {"inputs": ["a", ""]}, 400, "Empty", "inputs[1] is an empty string"),
    ("empty ids", "/embed", {"inputs": ["a", []]}, 400, "Empty", "inputs[1] is an empty list"),
    ("a fraction", "/embed", {"inputs": ["a", 1.5]}, 422, "Validation", "inputs[1] is a fraction"),
    ("a huge id", "/embed", {"inputs": [2**40]}, 422, "Validation", "outside this model's vocabulary"),
    ("an id beyond 64 bits", "/embed", {"inputs": [2**70]}, 422, "Validation", "inputs[0] is a fraction"),
    ("a negative id", "/embed", {"inputs": [["a"], [-1]]}, 422, "Validation", "inputs[0][0] is a string"),
    ("2,049 inputs", "/embed", {"inputs": ["a"] * 2049}, 422, "Validation", "over the 2048"),
    ("other dimensions", "/embed", {"inputs": "a", "dimensions": 12}, 422, "Validation", "dimensions is 12"),
    ("huge dimensions", "/embed", {"inputs": "a", "dimensions": 2**70}, 422, "Validation", "dimensions"),
    ("base64", "/embed", {"inputs": "a", "encoding_format": "base64"}, 422, "Validation", "encoding_format"),
    ("truncate as text", "/embed", {"inputs": "a", "truncate": "yes"}, 422, "Validation", "truncate"),
    ("a side that is none", "/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "truncation"),
    ("no prompts", "/embed", {"inputs": "a", "prompt_name": "x"}, 422, "Validation", "has no prompt 'x'"),
    ("an unknown model", "/embed", {"inputs": "a", "model": "x"}, 404, "Validation", "no model 'x'"),
    ("sparse vectors", "/embed_sparse", {"inputs": "a"}, 424, "Backend", "no model here gives sparse vectors"),
    ("labels of vectors", "/predict", {"inputs": "a"}, 424, "Backend", "not for classify"),
    ("no source", "/similarity", {"inputs": {"sentences": ["a"]}}, 422, "Validation", "source_sentence is null"),
    ("a text to compare", "/similarity", {"inputs": "a"}, 422, "Validation", "inputs is a string"),
    (
        "no sentences",
        "/similarity",
        {"inputs": {"source_sentence": "a", "sentences": []}},
        400,
        "Empty",
        "sentences is an empty list",
    ),
    (
        "a wrong parameter",
        "/",
        {"inputs": {"source_sentence": "a", "sentences": ["a"]}, "parameters": {"truncate": 3}},
        422,
        "Validation",
        "truncate: ",
    ),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_wrong_call_hears_why(
    client: httpx.Client, path: str, body: dict[str, object], status: int, kind: str, message: str
) -> None:
    assert message in refusal(client, path, status, kind, **body)


WRONG_LABELS: list[tuple[str, dict[str, object], str]] = [
    ("three texts", {"inputs": ["a", "b", "c"]}, "inputs is a list of 3"),
    ("a text among lists", {"inputs": [["a"], "b"]}, "inputs[1] is a string"),
    ("an empty one", {"inputs": [["a"], []]}, "inputs[1] is a list of 0"),
    ("a number in a pair", {"inputs": [["a", 3]]}, "inputs[0][1] is a whole number"),
    ("top_k 0", {"inputs": "a", "parameters": {"top_k": 0}}, "top_k"),
    ("a list for parameters", {"inputs": "a", "parameters": []}, "parameters is a list"),
    (
        "both kinds of scores",
        {"inputs": "a", "raw_scores": True, "parameters": {"function_to_apply": "sigmoid"}},
        "raw_scores is true and function_to_apply is sigmoid",
    ),
]


@pytest.mark.parametrize(("body", "message"), [row[1:] for row in WRONG_LABELS], ids=[row[0] for row in WRONG_LABELS])
def test_a_wrong_call_for_labels_hears_why(classifier: httpx.Client, body: dict[str, object], message: str) -> None:
    assert message in refusal(classifier, "/predict", 422, "Validation", **body)


def test_what_a_classifier_is_not_for_is_a_424(classifier: httpx.Client) -> None:
    assert "not for embed" in refusal(classifier, "/embed", 424, "Backend", inputs="a")
    assert "not for score or embed" in refusal(classifier, "/rerank", 424, "Backend", query="a", texts=["b"])


def test_what_is_no_json_or_no_object_is_told_in_the_form_of_the_dialect(client: httpx.Client) -> None:
    reply = client.post("/embed", content=b"{", headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error_type"]) == (400, "Validation")
    for path in ("/", "/embed", "/rerank", "/predict", "/similarity"):
        reply = client.post(path, json=["a"])
        assert (reply.status_code, reply.json()["error"]) == (422, "The body must be a JSON object.")
    assert client.get("/ready").status_code == 200
