"""A training step's texts get the raw scores of the reference, one each."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import client_of, serving

OUTCOME = golden_of("chat-reward")
PROCESS = golden_of("chat-process-reward")
QUERIES = [case["text"] for case in OUTCOME["cases"]]
SCORES = [case["score"][0] for case in OUTCOME["cases"]]
LARGEST_DIFFERENCE = 1e-4


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A reward model: one score for a conversation."""
    directory = made(OUTCOME, tmp_path_factory.mktemp("openrlhf") / "reward")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def rewards(reply: httpx.Response) -> list[float]:
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert set(body) == {"rewards", "scores", "extra_logs"}
    assert body["scores"] == body["rewards"]
    found: list[float] = body["rewards"]
    assert len(body["extra_logs"]["truncated"]) == len(found)
    return found


def test_texts_that_are_rendered_already_get_the_scores_of_the_reference(outcome: httpx.Client) -> None:
    sent = {"query": QUERIES, "prompts": ["a"] * len(QUERIES), "labels": [None] * len(QUERIES)}
    np.testing.assert_allclose(rewards(outcome.post("/get_reward", json=sent)), SCORES, rtol=0, atol=LARGEST_DIFFERENCE)
    one = outcome.post("/get_reward", json={"query": QUERIES[:1]})
    assert rewards(one) == pytest.approx(SCORES[:1], abs=LARGEST_DIFFERENCE)


def test_a_whole_training_step_comes_back_in_its_order(outcome: httpx.Client) -> None:
    count = 600
    found = rewards(outcome.post("/get_reward", json={"query": [QUERIES[n % len(QUERIES)] for n in range(count)]}))
    wanted = [SCORES[n % len(SCORES)] for n in range(count)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=LARGEST_DIFFERENCE)


def test_texts_that_are_too_long_are_cut_and_the_reply_says_which(outcome: httpx.Client) -> None:
    limit = outcome.get("/v1/models").json()["data"][0]["max_model_len"]
    kept = "water " * (limit // 2)
    long = kept + "a stone " * limit
    reply = outcome.post("/get_reward", json={"query": [QUERIES[0], long, QUERIES[1]]})
    first, _, last = rewards(reply)
    assert [first, last] == pytest.approx(SCORES[:2], abs=LARGEST_DIFFERENCE)
    assert reply.json()["extra_logs"]["truncated"] == [0, 1, 0]
    assert reply.headers["millpond-truncated-inputs"] == "1"
    left = outcome.post("/get_reward", json={"query": [long, "river " * limit + long], "truncation_side": "left"})
    # Only what stands at the end is left of both.
    assert rewards(left)[0] == pytest.approx(rewards(left)[1], abs=LARGEST_DIFFERENCE)
    error = checked(outcome.post("/get_reward", json={"query": ["a", long], "truncate": False}), 400)
    assert str(error["message"]).startswith("query[1] has")


def test_scores_for_each_step_are_for_another_route(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = made(PROCESS, tmp_path_factory.mktemp("openrlhf") / "process")
    with serving("--pooler-config", '{"step_tag_id": 1}', model=directory) as server, client_of(server) as client:
        error = checked(client.post("/get_reward", json={"query": ["a"]}), 400)
        assert error["code"] == "task_not_supported"
        assert "pools by STEP, which gives several scores for a text" in str(error["message"])


WRONG: list[tuple[str, dict[str, object], str, str]] = [
    ("no query", {}, "query", "Field required"),
    ("one text", {"query": "a"}, "query", "query is a string; it must be a list of strings"),
    ("no texts", {"query": []}, "query", "query is an empty list"),
    ("an empty text", {"query": ["a", ""]}, "query", "query[1] is an empty string"),
    ("a number", {"query": [1]}, "query", "query[0] is a whole number"),
    ("2,049 texts", {"query": ["a"] * 2049}, "query", "over the 2048"),
    ("a side that is none", {"query": ["a"], "truncation_side": "up"}, "truncation_side", "'left' or 'right'"),
]


@pytest.mark.parametrize(("body", "param", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_field_is_named(outcome: httpx.Client, body: dict[str, object], param: str, message: str) -> None:
    error = checked(outcome.post("/get_reward", json=body), 400)
    assert error["param"] == param
    assert message in str(error["message"])


def test_an_embedding_model_gives_no_rewards(client: httpx.Client) -> None:
    error = checked(client.post("/get_reward", json={"query": ["a"]}), 400)
    assert "not for reward" in str(error["message"])
