"""The whole way of a synchronous call, over real HTTP, through a real queue and a real worker."""

import base64
import json
import shlex
import subprocess

import httpx
import numpy as np
import openai
import pytest
from redis import Redis

from scheduler.keys import ModelKeys
from tests.conftest import eventually
from tests.server import TINY_BERT, Millpond, redis_of

EXPECTED = json.loads((TINY_BERT / "expected.json").read_text()) if (TINY_BERT / "expected.json").exists() else {}


def vectors(reply: httpx.Response) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.asarray([each["embedding"] for each in reply.json()["data"]], dtype=np.float32)


def embed(client: httpx.Client, given: object, **fields: object) -> httpx.Response:
    return client.post("/v1/embeddings", json={"input": given, **fields})


def test_the_printed_curl_line_works_as_printed(server: Millpond) -> None:
    line = server.wait_for_line("^  curl ")
    output = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=30).stdout
    (data,) = json.loads(output)["data"]
    assert len(data["embedding"]) == 48


def test_all_four_kinds_of_input_give_the_same_vectors(client: httpx.Client) -> None:
    texts = ["water and wheels", "a stone"]
    wanted = vectors(embed(client, texts))
    assert np.allclose(np.linalg.norm(wanted, axis=1), 1, atol=1e-6)
    assert vectors(embed(client, texts[0])) == pytest.approx(wanted[:1], abs=1e-5)
    from pooling.config import resolve_spec
    from pooling.tokenizing import Tokenizer

    ids = [each.tolist() for each in Tokenizer.from_spec(resolve_spec(TINY_BERT)).encode(texts)]
    assert vectors(embed(client, ids)) == pytest.approx(wanted, abs=1e-5)
    assert vectors(embed(client, ids[0])) == pytest.approx(wanted[:1], abs=1e-5)


def test_a_models_own_dimensions_may_be_asked_for(client: httpx.Client) -> None:
    assert vectors(embed(client, "water", dimensions=48)) == pytest.approx(vectors(embed(client, "water")), abs=1e-5)


def test_base64_carries_the_same_little_endian_float32(client: httpx.Client) -> None:
    wanted = vectors(embed(client, "water"))
    reply = embed(client, "water", encoding_format="base64").json()
    assert np.frombuffer(base64.b64decode(reply["data"][0]["embedding"]), "<f4") == pytest.approx(wanted[0], abs=1e-6)


def test_the_reply_has_openais_form(client: httpx.Client) -> None:
    reply = embed(client, ["water", "a stone"], user="me", unknown_field={"is": "accepted"}).json()
    assert reply["object"] == "list"
    assert reply["model"] == "tiny-bert"
    assert [each["index"] for each in reply["data"]] == [0, 1]
    assert {each["object"] for each in reply["data"]} == {"embedding"}
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 4


@pytest.mark.parametrize("name", ["tiny-bert", "", "default", None])
def test_the_served_model_answers_to_its_names(client: httpx.Client, name: str | None) -> None:
    assert embed(client, "water", model=name).status_code == 200


def test_the_unmodified_openai_client_works(server: Millpond) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    reply = client.embeddings.create(model="tiny-bert", input=["water", "a stone"])
    assert [len(each.embedding) for each in reply.data] == [48, 48]
    assert [each.id for each in client.models.list()] == ["tiny-bert"]
    assert client.models.retrieve("tiny-bert").id == "tiny-bert"
    with pytest.raises(openai.NotFoundError, match="tiny-bert"):
        client.embeddings.create(model="other", input="water")
    with pytest.raises(openai.BadRequestError, match="empty string") as caught:
        client.embeddings.create(model="tiny-bert", input="")
    assert caught.value.param == "input"
    assert caught.value.request_id


def test_a_text_of_exactly_the_limit_passes_and_one_token_more_is_refused_or_cut(client: httpx.Client) -> None:
    limit = client.get("/v1/models").json()["data"][0]["max_model_len"]
    fits, too_long = [["a"] * (limit - 2 + more) for more in (0, 1)]
    reply = embed(client, " ".join(fits))
    assert reply.json()["usage"]["prompt_tokens"] == limit
    refused = embed(client, " ".join(too_long))
    assert refused.status_code == 400
    assert f"{limit + 1} tokens, over this model's {limit} (--max-model-len)" in refused.json()["error"]["message"]
    cut = embed(client, " ".join(too_long), truncate_prompt_tokens=-1)
    assert vectors(cut) == pytest.approx(vectors(reply), abs=1e-5)
    assert cut.headers["millpond-truncated-inputs"] == "1"
    assert "millpond-truncated-inputs" not in reply.headers
    shorter = embed(client, " ".join(fits), truncate_prompt_tokens=5)
    assert shorter.json()["usage"]["prompt_tokens"] == 5


def test_many_inputs_come_back_in_their_order(client: httpx.Client) -> None:
    texts = [" ".join(["water", "stone", "mill", "wheel"][: n % 4 + 1]) for n in range(2048)]
    found = vectors(embed(client, texts))
    assert found.shape == (2048, 48)
    assert np.abs(found - found[np.arange(2048) % 4]).max() <= 1e-5


def test_request_ids_go_in_and_out(client: httpx.Client) -> None:
    reply = client.post("/v1/embeddings", json={"input": "water"}, headers={"X-Request-Id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    made = [client.get("/health").headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert client.get("/health", headers={"X-Request-Id": "with space"}).headers["x-request-id"] != "with space"


def test_health_and_ready_answer(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}


def test_a_caller_that_leaves_takes_its_items_along(server: Millpond, client: httpx.Client) -> None:
    keys = ModelKeys("tiny-bert")

    def abandoned(redis: Redis) -> int:
        return int(redis.hget(keys.counters, "items_abandoned") or 0)

    with redis_of(server) as redis:
        before = abandoned(redis)
        with pytest.raises(httpx.ReadTimeout):
            # Enough work to be still in the queue when the caller has lost its patience.
            client.post("/v1/embeddings", json={"input": ["a " * 60] * 2048}, timeout=httpx.Timeout(60, read=0.2))
        eventually(lambda: abandoned(redis) > before)
        eventually(lambda: not redis.xlen(keys.lanes[0]))


def test_metrics_tell_what_happened(server: Millpond, client: httpx.Client) -> None:
    embed(client, "water")
    text = eventually(lambda: httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text)
    for line in (
        'millpond_requests_total{route="/v1/embeddings",status="200"}',
        'millpond_queue_depth{lane="interactive",model="tiny-bert"} 0.0',
        'millpond_queue_age_seconds{lane="bulk",model="tiny-bert"} 0.0',
        'millpond_workers{model="tiny-bert"} 1.0',
        'millpond_batch_tokens_count{model="tiny-bert"}',
        'millpond_batch_sequences_count{model="tiny-bert"}',
        'millpond_stage_seconds_count{model="tiny-bert",stage="forward"}',
        'millpond_stage_seconds_count{model="tiny-bert",stage="queued"}',
        'millpond_queue_total{model="tiny-bert",outcome="items_answered"}',
        "millpond_redis_up 1.0",
    ):
        assert line in text, text
