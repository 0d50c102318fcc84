"""Conversations become the scores of the reference, by the checkpoint's chat template and over real HTTP."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, Millpond, client_of, serving

FAMILIES = GOLDEN / "families"
LARGEST_DIFFERENCE = 1e-4

OUTCOME = golden_of("chat-reward")
PROCESS = golden_of("chat-process-reward")
STEP = "<extra_0>"

ASKED = {"role": "user", "content": "where does the water go?"}


def reward(client: httpx.Client, messages: object, **fields: object) -> httpx.Response:
    return client.post("/v1/chat/reward", json={"messages": messages, **fields})


def score(reply: httpx.Response) -> list[float]:
    assert reply.status_code == 200, reply.text
    (data,) = reply.json()["data"]
    found: list[float] = data["score"]
    return found


def assert_close(found: list[float], wanted: list[float]) -> None:
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=LARGEST_DIFFERENCE)


def options_of(case: dict[str, Any]) -> dict[str, object]:
    """A case's options as the fields of a request; variables of the template have a field of their own."""
    own = {"add_generation_prompt", "continue_final_message"}
    variables = {name: value for name, value in case["options"].items() if name not in own}
    fields = {name: value for name, value in case["options"].items() if name in own}
    return {**fields, "chat_template_kwargs": variables} if variables else fields


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A reward model with a chat template: one score for a conversation."""
    directory = made(OUTCOME, tmp_path_factory.mktemp("outcome") / "reward")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A process reward model: a score for each step."""
    directory = made(PROCESS, tmp_path_factory.mktemp("process") / "reward")
    with serving("--pooler-config", '{"step_tag_id": 1}', model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def shepherd() -> Iterator[Millpond]:
    """Steps read off two tokens of a language-model head; without a chat template."""
    known = json.loads((FAMILIES / "math-shepherd.expected.json").read_text("utf-8"))
    options = json.dumps(known["options"]["pooler_config"])
    with serving("--pooler-config", options, model=FAMILIES / "math-shepherd") as server:
        yield server


@pytest.mark.parametrize("case", OUTCOME["cases"], ids=lambda case: str(case["options"]))
def test_a_conversation_gets_the_score_of_the_reference(outcome: httpx.Client, case: dict[str, Any]) -> None:
    reply = reward(outcome, case["messages"], return_token_ids=True, **options_of(case))
    assert_close(score(reply), case["score"])
    (data,) = reply.json()["data"]
    assert data["prompt_tokens"] == case["text"]
    assert data["prompt_token_ids"] == case["ids"]
    assert reply.json()["usage"] == {"prompt_tokens": len(case["ids"]), "total_tokens": len(case["ids"])}


@pytest.mark.parametrize("case", PROCESS["cases"], ids=lambda case: str(case["options"]))
def test_each_step_gets_the_score_of_the_reference(process: httpx.Client, case: dict[str, Any]) -> None:
    reply = reward(process, case["messages"], **options_of(case))
    assert_close(score(reply), case["score"])
    assert (reply.json()["pooling"], reply.json()["activation"]) == ("STEP", "softmax")


def test_steps_read_off_tokens_get_the_scores_of_the_reference(shepherd: Millpond) -> None:
    known = json.loads((FAMILIES / "math-shepherd.expected.json").read_text("utf-8"))["inputs"]
    with client_of(shepherd) as client:
        for each in known:
            assert_close(score(reward(client, each["ids"])), [row[0] for row in each["rows"]])


def test_the_reply_has_fastdeploys_form_and_names_what_was_applied(outcome: httpx.Client) -> None:
    reply = reward(outcome, [ASKED], model="", user="me", priority=-1, normalize=True, unknown="accepted").json()
    assert re.fullmatch("reward-[0-9a-f]{32}", reply["id"])
    assert (reply["object"], reply["model"]) == ("object", "reward")
    assert (reply["pooling"], reply["activation"]) == ("LAST", "none")
    assert reply["created"] > 1_700_000_000
    (data,) = reply["data"]
    assert set(data) == {"index", "object", "score"}
    assert (data["index"], data["object"]) == (0, "reward")
    assert reward(outcome, [ASKED], request_id="mine").json()["id"] == "mine"


def test_text_parts_are_the_text_that_they_make(outcome: httpx.Client) -> None:
    parts = [{"type": "text", "text": "where does"}, {"type": "text", "text": "the water go?"}]
    one = reward(outcome, [{"role": "user", "content": parts}], return_token_ids=True)
    text = reward(outcome, [{"role": "user", "content": "where does\nthe water go?"}], return_token_ids=True)
    assert one.json()["data"] == text.json()["data"]


def test_token_ids_are_scored_as_they_are(outcome: httpx.Client) -> None:
    case = OUTCOME["cases"][0]
    reply = reward(outcome, case["ids"], return_token_ids=True)
    assert_close(score(reply), case["score"])
    (data,) = reply.json()["data"]
    assert data["prompt_tokens"] is None
    assert data["prompt_token_ids"] == case["ids"]


def test_the_beginning_goes_where_a_conversation_is_cut(outcome: httpx.Client) -> None:
    case = OUTCOME["cases"][2]
    reply = reward(outcome, case["messages"], truncate_prompt_tokens=20, return_token_ids=True)
    assert reply.json()["data"][0]["prompt_token_ids"] == case["ids"][-20:]
    assert_close(score(reply), score(reward(outcome, case["ids"][-20:])))
    assert reply.headers["millpond-truncated-inputs"] == "1"


def test_fastdeploys_own_example_works_but_for_its_image(outcome: httpx.Client) -> None:
    body = """{ "model": "", "messages": [ { "role": "user", "content": [ { "type": "image_url", "image_url":
        { "url": "https://xxx/a.png" } } ] }, { "role": "assistant", "content": [ { "type": "text", "text":
        "图里有几个人" } ] } ], "user": "user-123", "chat_template": null, "chat_template_kwargs": { "custom_var":
        "value" }, "mm_processor_kwargs": { "image_size": 224 } }"""
    url = f"{outcome.base_url}/v1/chat/reward"
    command = f"curl -s --location '{url}' --header 'Content-Type: application/json' --data '{body}'"
    output = subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=30).stdout
    error = json.loads(output)["error"]
    assert error["param"] == "messages"
    assert "messages[0].content[0].image_url.url is an image, and reward takes text only" in error["message"]
    without = json.loads(body)
    without["messages"][0]["content"] = "how many people are there?"
    assert len(score(outcome.post("/v1/chat/reward", json=without))) == 1


BAD_FIELDS: list[tuple[str, dict[str, object], str, str]] = [
    ("absent", {}, "messages", "Field required"),
    ("null", {"messages": None}, "messages", "null; it must be a list of messages"),
    ("a string", {"messages": "hello"}, "messages", "a string; it must be a list of messages"),
    ("empty", {"messages": []}, "messages", "empty list"),
    ("strings", {"messages": ["hello"]}, "messages", r"messages\[0\] is a string"),
    ("no role", {"messages": [{"content": "a"}]}, "messages", r"messages\[0\]\.role is null"),
    ("no content", {"messages": [ASKED, {"role": "user"}]}, "messages", r"messages\[1\]\.content is null"),
    ("content of a number", {"messages": [{"role": "user", "content": 3}]}, "messages", "content is a whole number"),
    ("no parts", {"messages": [{"role": "user", "content": []}]}, "messages", "content is an empty list"),
    ("a part of a string", {"messages": [{"role": "user", "content": ["a"]}]}, "messages", r"content\[0\] is a string"),
    (
        "a part of an unknown type",
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        "messages",
        r"content\[0\]\.type is 'smell'",
    ),
    (
        "a part without text",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages",
        r"content\[0\]\.text is null",
    ),
    ("ids and strings", {"messages": [1, "a"]}, "messages", r"messages\[1\] is a string; messages must be"),
    ("ids beyond the vocabulary", {"messages": [1, 10**6]}, "messages", r"messages\[1\] is token id 1000000"),
    ("too many ids", {"messages": [1] * 2000}, "messages", "2000 tokens, over this model's 1024"),
    (
        "too long",
        {"messages": [{"role": "user", "content": "a " * 2000}]},
        "messages",
        r"tokens, over this model's 1024",
    ),
    (
        "both ways to end",
        {"messages": [ASKED], "add_generation_prompt": True, "continue_final_message": True},
        "continue_final_message",
        "both true",
    ),
    ("a template", {"messages": [ASKED], "chat_template": "{{ 1 }}"}, "chat_template", "not taken from requests"),
    (
        "variables of its own",
        {"messages": [ASKED], "chat_template_kwargs": {"messages": []}},
        "chat_template_kwargs",
        "messages",
    ),
    (
        "variables that are none",
        {"messages": [ASKED], "chat_template_kwargs": "x"},
        "chat_template_kwargs",
        "dictionary",
    ),
    (
        "what the template refuses",
        {"messages": [{"role": "assistant", "content": "a"}]},
        "messages",
        r"refuses these messages: A conversation begins with a user\.$",
    ),
    ("dimensions", {"messages": [ASKED], "dimensions": 8}, "dimensions", "a score of this model has 1"),
    ("truncation beyond", {"messages": [ASKED], "truncate_prompt_tokens": 2000}, "truncate_prompt_tokens", "1024"),
    ("a request id that is no string", {"messages": [ASKED], "request_id": 3}, "request_id", "string"),
]


@pytest.mark.parametrize(
    ("body", "param", "message"), [row[1:] for row in BAD_FIELDS], ids=[row[0] for row in BAD_FIELDS]
)
def test_a_wrong_field_is_named(outcome: httpx.Client, body: dict[str, object], param: str, message: str) -> None:
    error = checked(outcome.post("/v1/chat/reward", json=body), 400)
    assert error["param"] == param
    assert re.search(message, str(error["message"])), error


def test_a_conversation_without_a_step_is_refused_with_the_name_of_the_tag(process: httpx.Client) -> None:
    error = checked(reward(process, [ASKED]), 400)
    assert (error["param"], error["code"]) == ("messages", "no_steps")
    assert "token 1 ('<extra_0>', its step_tag_id)" in str(error["message"])
    assert score(reward(process, [{"role": "user", "content": f"a{STEP}"}]))


def test_a_model_without_a_template_takes_token_ids_only(shepherd: Millpond) -> None:
    with client_of(shepherd) as client:
        error = checked(reward(client, [ASKED]), 400)
        assert error["code"] == "no_chat_template"
        assert "send token ids" in str(error["message"])


def test_other_routes_say_what_the_model_is_for(outcome: httpx.Client) -> None:
    for path, body in (
        ("/v1/embeddings", {"input": "a"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ):
        error = checked(outcome.post(path, json=body), 400)
        assert (error["param"], error["code"]) == ("model", "task_not_supported")
        assert "reward is served for reward (/v1/chat/reward), not for" in str(error["message"])


def test_long_conversations_are_rendered_beside_the_event_loop(outcome: httpx.Client) -> None:
    messages = [{"role": ("user", "assistant")[number % 2], "content": "a mill " * 500} for number in range(40)]
    reply = reward(outcome, messages, truncate_prompt_tokens=-1)
    assert reply.json()["usage"]["prompt_tokens"] == 1024
    assert len(score(reply)) == 1


def test_the_routes_are_described_with_an_example(outcome: httpx.Client) -> None:
    paths = outcome.get("/openapi.json").json()["paths"]
    for path in ("/v1/embeddings", "/v1/chat/reward", "/v1/rerank"):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        assert content["example"].keys() <= content["schema"]["properties"].keys()
    example = paths["/v1/chat/reward"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert score(outcome.post("/v1/chat/reward", json=example))


def test_nonsense_leaves_the_servers_well(outcome: httpx.Client, process: httpx.Client) -> None:
    assert outcome.get("/ready").status_code == 200
    assert process.get("/ready").status_code == 200
