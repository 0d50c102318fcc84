"""Many rows in one call: the numbers of the ordinary routes, and an error for each row that is wrong."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.pooling_routes import EMBEDDER, JUDGE, RERANKER, models_file, words
from tests.golden.variants import golden_of, made
from tests.server import client_of, serving

STEP = "<extra_0>"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with a model for each task."""
    folder = tmp_path_factory.mktemp("models")
    path = models_file(folder, EMBEDDER, RERANKER, JUDGE)
    steps = made(golden_of("chat-process-reward"), folder / "steps")
    section = f'[models.steps]\nmodel = "{steps}"\npooler_config = {{step_tag_id = 1}}\n'
    path.write_text(path.read_text("utf-8") + section, "utf-8")
    with serving("--models-file", str(path), model=None) as server, client_of(server) as plain:
        yield plain


def rows(client: httpx.Client, model: str, task: str, given: list[Any], **fields: object) -> list[dict[str, Any]]:
    reply = client.post("/v1/rows", json={"model": model, "task": task, "rows": given, **fields})
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert [entry["index"] for entry in body["data"]] == list(range(len(given)))
    assert body["usage"]["total_tokens"] == sum(entry["tokens"] for entry in body["data"])
    assert int(reply.headers["millpond-queue-depth"]) >= 0
    entries: list[dict[str, Any]] = body["data"]
    return entries


def posted(client: httpx.Client, path: str, **body: object) -> Any:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": role, "content": each} for role, each in zip(("user", "assistant") * 8, contents, strict=False)]


def assert_close(found: list[float], wanted: list[float]) -> None:
    """Equal but for what the company in a micro-batch changes."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


CONVERSATIONS = [said("where does the water go?", f"to the {word}") for word in ("mill", "pond", "sea " * 7, "x")]


def test_scores_are_those_of_the_reward_route(client: httpx.Client) -> None:
    wanted = [posted(client, "/v1/chat/reward", model=JUDGE, messages=each) for each in CONVERSATIONS]
    found = rows(client, JUDGE, "score", [{"messages": each} for each in CONVERSATIONS])
    assert_close([entry["score"][0] for entry in found], [each["data"][0]["score"][0] for each in wanted])
    assert [entry["tokens"] for entry in found] == [each["usage"]["total_tokens"] for each in wanted]


def test_step_rewards_are_lists_and_a_row_without_a_step_is_an_error(client: httpx.Client) -> None:
    stepped = said("2 + 2?", f"first {STEP} then {STEP}")
    wanted = posted(client, "/v1/chat/reward", model="steps", messages=stepped)["data"][0]["score"]
    good, bad = rows(client, "steps", "score", [{"messages": stepped}, {"messages": said("2 + 2?", "4")}])
    assert good["score"] == wanted
    assert len(wanted) == 2
    assert bad["error"]["code"] == "no_steps"


@pytest.mark.parametrize("fields", [{}, {"dimensions": None, "normalize": False}])
def test_embeddings_are_those_of_the_embeddings_route(client: httpx.Client, fields: dict[str, object]) -> None:
    texts = ["a pond", words(30), "mill"]
    wanted = [
        each["embedding"] for each in posted(client, "/v1/embeddings", model=EMBEDDER, input=texts, **fields)["data"]
    ]
    given = [{"text": each} for each in texts]
    assert [entry["embedding"] for entry in rows(client, EMBEDDER, "embed", given, **fields)] == wanted
    encoded = rows(client, EMBEDDER, "embed", given, encoding_format="base64", **fields)
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in encoded]
    np.testing.assert_array_equal(np.array(decoded), np.array(wanted, dtype=np.float32))


def test_conversations_are_embedded_as_on_the_embeddings_route(client: httpx.Client) -> None:
    wanted = posted(client, "/v1/embeddings", model=EMBEDDER, messages=CONVERSATIONS[0])["data"][0]["embedding"]
    (entry,) = rows(client, EMBEDDER, "embed", [{"messages": CONVERSATIONS[0]}])
    assert entry["embedding"] == wanted


@pytest.mark.parametrize("model", [RERANKER, EMBEDDER])
def test_reranking_is_that_of_the_rerank_route_in_the_documents_order(client: httpx.Client, model: str) -> None:
    groups = [{"query": "water", "documents": ["a mill", "a pond", "rain"]}, {"query": "corn", "documents": ["bread"]}]
    wanted = []
    for group in groups:
        results = posted(client, "/v1/rerank", model=model, **group)["results"]
        wanted.append([each["relevance_score"] for each in sorted(results, key=lambda each: each["index"])])
    for entry, scores in zip(rows(client, model, "rerank", groups), wanted, strict=True):
        assert_close(entry["scores"], scores)


def test_a_query_with_a_document_has_a_score(client: httpx.Client) -> None:
    pair = {"query": "water", "documents": ["a mill"]}
    (wanted,) = posted(client, "/v1/rerank", model=RERANKER, **pair)["results"]
    (entry,) = rows(client, RERANKER, "score", [pair])
    assert entry["score"] == [wanted["relevance_score"]]


BAD_ROWS = [
    "text",
    {},
    {"text": ""},
    {"text": 5},
    {"text": words(500)},
    {"messages": []},
    {"messages": [{"role": "user"}]},
    {"messages": [{"content": "no role"}]},
    {"messages": said("x"), "text": "x"},
    {"messages": [10**9]},
]


@pytest.mark.parametrize(("model", "task"), [(JUDGE, "score"), (EMBEDDER, "embed")])
def test_a_bad_row_spoils_no_other(client: httpx.Client, model: str, task: str) -> None:
    good = {"messages": CONVERSATIONS[0]}
    given = [good, *(row for bad in BAD_ROWS for row in (bad, good))]
    found = rows(client, model, task, given)
    (alone,) = rows(client, model, task, [good])
    kind = "score" if task == "score" else "embedding"
    for place, entry in enumerate(found):
        if place % 2:
            assert entry["error"]["message"], given[place]
            assert kind not in entry
        else:
            np.testing.assert_allclose(entry[kind], alone[kind], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}, {"role": None}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"messages": [5, "x"]}, "messages[1]"),
        ({"text": []}, "text"),
    ],
)
def test_an_error_names_the_place_inside_its_row(client: httpx.Client, row: dict[str, object], param: str) -> None:
    (entry,) = rows(client, JUDGE, "score", [row])
    assert entry["error"]["param"] == param
    assert entry["error"]["type"] == "invalid_request_error"


def test_documents_of_all_rows_are_limited_together(client: httpx.Client) -> None:
    group = {"query": "water", "documents": ["x"] * 2000}
    reply = client.post("/v1/rows", json={"model": RERANKER, "task": "rerank", "rows": [group] * 9})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "rows")
    assert "18000 documents together, over the 16384" in reply.json()["error"]["message"]


def test_bad_rows_to_rerank_are_errors_beside_good_ones(client: httpx.Client) -> None:
    good = {"query": "water", "documents": ["a mill"]}
    bad = [
        {"query": "water"},
        {"query": "", "documents": ["x"]},
        {"query": words(90), "documents": ["x"]},
        {"documents": []},
    ]
    found = rows(client, RERANKER, "rerank", [*bad, good])
    assert all("error" in entry for entry in found[:-1])
    assert len(found[-1]["scores"]) == 1


def test_rows_are_cut_where_that_is_asked_for(client: httpx.Client) -> None:
    long, short = rows(client, EMBEDDER, "embed", [{"text": words(500)}, {"text": "x"}], truncate_prompt_tokens=-1)
    assert (long["tokens"], long["truncated"]) == (64, True)
    assert "truncated" not in short


def test_rows_can_be_rendered_only(client: httpx.Client) -> None:
    before = client.get("/ready").status_code
    good, bad = rows(client, JUDGE, "score", [{"messages": CONVERSATIONS[0]}, {"text": words(500)}], render_only=True)
    assert good["prompt"] == "where does the water go?to the mill"
    assert good["tokens"] > 0
    assert "score" not in good
    assert "error" in bad
    assert before == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"task": "score"}, "rows"),
        ({"task": "sing", "rows": [{}]}, "task"),
        ({"task": "embed", "rows": []}, "rows"),
        ({"task": "embed", "rows": [{"text": "x"}] * 2049}, "rows"),
        ({"task": "embed", "rows": {"text": "x"}}, "rows"),
        ({"task": "score", "rows": [{"text": "x"}], "dimensions": 3}, "model"),
        ({"task": "embed", "rows": [{"text": "x"}], "dimensions": 3}, "dimensions"),
        ({"task": "embed", "rows": [{"text": "x"}], "truncate_prompt_tokens": 10**6}, "truncate_prompt_tokens"),
        ({"task": "embed", "rows": [{"text": "x"}], "chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs"),
    ],
)
def test_what_is_wrong_with_the_call_is_a_400(client: httpx.Client, body: dict[str, object], param: str) -> None:
    reply = client.post("/v1/rows", json={"model": EMBEDDER, **body})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_call_of_2048_rows_is_answered_in_the_bulk_lane(client: httpx.Client) -> None:
    given = [{"text": words(1 + number % 5)} for number in range(2048)]
    reply = client.post(
        "/v1/rows", json={"model": EMBEDDER, "task": "embed", "rows": given}, headers={"Millpond-Lane": "bulk"}
    )
    assert reply.status_code == 200
    assert len(reply.json()["data"]) == 2048
