"""A reward call as OpenRLHF's trainer makes it: templated texts, posted by `requests`, tried again where it fails."""

import sys
from pathlib import Path
from typing import Any

import requests
from tokenizers import Tokenizer

from tests.clients.faltering import Refusal, faltering
from tests.clients.plain import assert_same, post, run

QUERIES = ["where is the water? the mill pond stores it", "rain", "the river arrives"]
TRIES = 5


def main(url: str, directory: str) -> None:
    model = Path(directory).name
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    # The texts come out of a chat template, which wrote the special tokens that they are to have.
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in QUERIES]
    wanted = [post(url, "/v1/chat/reward", {"model": model, "messages": each})["data"][0]["score"][0] for each in ids]
    reply = remote_rewards(f"{url}/get_reward", {"query": QUERIES, "prompts": QUERIES, "labels": [""] * len(QUERIES)})
    assert_same(reply["rewards"], wanted)
    assert_same(reply["scores"], wanted)
    assert isinstance(reply["extra_logs"], dict)
    assert all(len(values) == len(QUERIES) for values in reply["extra_logs"].values())
    # Older trainers send the texts alone, and labels may be null.
    assert_same(remote_rewards(f"{url}/get_reward", {"query": QUERIES})["rewards"], wanted)
    labels = {"query": QUERIES, "prompts": QUERIES, "labels": [None] * len(QUERIES)}
    assert_same(remote_rewards(f"{url}/get_reward", labels)["rewards"], wanted)
    with faltering(url, Refusal(503), Refusal(429)) as server:
        assert_same(remote_rewards(f"{server.url}/get_reward", {"query": QUERIES})["rewards"], wanted)
        assert server.answered == [503, 429, 200]
    check_lengths(url, tokenizer)


def check_lengths(url: str, tokenizer: Tokenizer) -> None:
    """A text that is too long loses its end, as at OpenRLHF's own server, or its beginning; and the reply says so."""
    limit = requests.get(f"{url}/v1/models", timeout=60).json()["data"][0]["max_model_len"]
    long = " ".join(["where is the water?"] * 50)
    ids = tokenizer.encode(long, add_special_tokens=False).ids
    assert len(ids) > limit
    for fields, kept in (({}, ids[:limit]), ({"truncation_side": "left"}, ids[-limit:])):
        wanted = post(url, "/v1/chat/reward", {"messages": kept})["data"][0]["score"]
        reply = remote_rewards(f"{url}/get_reward", {"query": [long, QUERIES[1]], **fields})
        assert_same(reply["rewards"][:1], wanted)
        assert reply["extra_logs"]["truncated"] == [1.0, 0.0], reply


def remote_rewards(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """As the trainer does it: five tries, any error is tried again."""
    for _ in range(TRIES):
        try:
            reply = requests.post(url, json=body, headers={"Content-Type": "application/json"}, timeout=180)
            reply.raise_for_status()
            return reply.json()
        except requests.RequestException as error:
            print("try again:", error, file=sys.stderr)
    raise AssertionError(f"no reward in {TRIES} tries")


if __name__ == "__main__":
    run(main)
