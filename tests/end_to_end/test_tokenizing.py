"""Token ids of texts and texts of token ids over HTTP, as vLLM and text-embeddings-inference give them."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.golden.variants import golden_of, made
from tests.server import client_of, serving

OUTCOME = golden_of("chat-reward")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A model with a chat template."""
    directory = made(OUTCOME, tmp_path_factory.mktemp("outcome") / "reward")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def test_a_text_has_the_ids_that_the_model_is_given(client: httpx.Client) -> None:
    reply = client.post("/tokenize", json={"prompt": "The mill", "return_token_strs": True}).json()
    assert reply["max_model_len"] == 64
    assert reply["count"] == len(reply["tokens"]) == len(reply["token_strs"])
    assert (reply["token_strs"][0], reply["token_strs"][-1]) == ("[CLS]", "[SEP]")
    plain = client.post("/tokenize", json={"prompt": "The mill", "add_special_tokens": False}).json()
    assert plain["tokens"] == reply["tokens"][1:-1]
    assert plain["token_strs"] is None
    usage = client.post("/v1/embeddings", json={"input": "The mill"}).json()["usage"]
    assert usage["prompt_tokens"] == reply["count"]


def test_a_conversation_has_the_ids_of_its_template(outcome: httpx.Client) -> None:
    case = OUTCOME["cases"][0]
    body = {"messages": case["messages"], "add_generation_prompt": False}
    assert outcome.post("/tokenize", json=body).json()["tokens"] == case["ids"]
    silent = outcome.post("/tokenize", json={"messages": case["messages"]}).json()["tokens"]
    asked = outcome.post("/tokenize", json={**body, "add_generation_prompt": True}).json()["tokens"]
    assert silent == asked != case["ids"]
    body = {"messages": case["messages"], "continue_final_message": True}
    assert outcome.post("/tokenize", json=body).status_code == 200


def test_ids_become_the_text_again(client: httpx.Client) -> None:
    ids = client.post("/tokenize", json={"prompt": "the mill"}).json()["tokens"]
    assert client.post("/detokenize", json={"tokens": ids}).json() == {"prompt": "[CLS] the mill [SEP]"}
    assert client.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}
    assert client.post("/decode", json={"ids": ids}).json() == ["the mill"]
    assert client.post("/decode", json={"ids": [ids, ids[1:2]], "skip_special_tokens": False}).json() == [
        "[CLS] the mill [SEP]",
        "the",
    ]


@pytest.mark.parametrize("text", ["The mill", "naïve café – déjà vu", "磨坊的池塘储存着水。", "🌊 and 🌊"])
def test_each_token_has_its_place_in_bytes(client: httpx.Client, text: str) -> None:
    (tokens,) = client.post("/tokenize", json={"inputs": text}).json()
    encoded = text.encode()
    assert tokens[0] == {"id": tokens[0]["id"], "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert tokens[-1]["text"] == "[SEP]"
    for token in tokens[1:-1]:
        assert set(token) == {"id", "text", "special", "start", "stop"}
        assert not token["special"]
        assert encoded[token["start"] : token["stop"]].decode() == token["text"]
    ids = client.post("/tokenize", json={"prompt": text}).json()["tokens"]
    assert [token["id"] for token in tokens] == ids


def test_texts_come_one_by_one_or_together_and_without_special_tokens(client: httpx.Client) -> None:
    one, other = client.post("/tokenize", json={"inputs": ["mill", ""], "add_special_tokens": False}).json()
    assert [token["text"] for token in one] == ["mill"]
    assert other == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": []}, 400, "inputs is an empty list"),
        ({"inputs": 3}, 422, "inputs is a whole number"),
        ({"inputs": ["a", 3]}, 422, r"inputs\[1\] is a whole number"),
        ({"inputs": ["a"] * 2049}, 422, "over the 2048 of one call"),
        ({"inputs": "a", "prompt_name": "query"}, 422, "has no prompt 'query'"),
        ({"inputs": "a " * 600_000}, 413, "over the limit of 1000000 bytes"),
    ],
)
def test_errors_about_inputs_have_the_form_of_their_clients(
    client: httpx.Client, body: dict[str, object], status: int, message: str
) -> None:
    reply = client.post("/tokenize", json=body)
    assert reply.status_code == status
    told = reply.json().get("error")
    # What is too large to be read is not known to be in this dialect.
    assert re.search(message, told["message"] if status == 413 else told)
    if status != 413:
        assert reply.json()["error_type"] == ("Empty" if status == 400 else "Validation")


def test_errors_of_decoding_have_that_form_too(client: httpx.Client) -> None:
    for body, message in (({"ids": [[1], ["a"]]}, r"ids\[1\]\[0\] is a string"), ({"ids": [10**9]}, "vocabulary of")):
        reply = client.post("/decode", json=body)
        assert (reply.status_code, reply.json()["error_type"]) == (422, "Validation")
        assert re.search(message, reply.json()["error"])


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        ("/tokenize", {}, "prompt", "None of prompt, messages and inputs is there"),
        ("/tokenize", {"prompt": "a", "messages": [1]}, "prompt", "Both prompt and messages"),
        ("/tokenize", {"prompt": ["a"]}, "prompt", "prompt is a list"),
        ("/tokenize", {"messages": [{"role": "user", "content": "a"}]}, "messages", "no chat template"),
        ("/tokenize", {"prompt": "a", "tools": [{}]}, "tools", "chat_template_kwargs"),
        ("/tokenize", {"prompt": "a", "truncate_prompt_tokens": 3}, "truncate_prompt_tokens", "leave it out"),
        ("/detokenize", {"tokens": [1, "a"]}, "tokens", r"tokens\[1\] is a string"),
        ("/detokenize", {"tokens": [-1]}, "tokens", "outside this model's vocabulary"),
        ("/detokenize", {"tokens": [True]}, "tokens", r"tokens\[0\] is a boolean"),
        ("/detokenize", {}, "tokens", "Field required"),
    ],
)
def test_errors_of_vllms_forms_name_the_field(
    client: httpx.Client, path: str, body: dict[str, object], param: str, message: str
) -> None:
    reply = client.post(path, json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, 400, param)
    assert re.search(message, error["message"]), error


def test_texts_over_the_limit_are_refused() -> None:
    with serving() as server, client_of(server) as client:
        for field in ("prompt", "inputs"):
            told = client.post("/tokenize", json={field: "a" * 1_000_001}).text
            assert f"{field} has 1000001 characters, over the 1000000 of one call" in told
        told = client.post("/detokenize", json={"tokens": [1] * 1_000_001}).text
        assert "tokens has 1000001 token ids, over the 1000000 of one call" in told
