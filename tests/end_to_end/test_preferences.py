"""Calls with `Prefer` (RFC 7240): answered later, as jobs, or waited for so long."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.answers import assert_one_answer
from tests.end_to_end.job_calls import Caller, submissions
from tests.end_to_end.pooling_routes import EMBEDDER, RERANKER, models_file
from tests.end_to_end.waiting import held_still, taking
from tests.server import Millpond, serving

EMBEDDINGS = "/v1/embeddings"
BODY = {"model": EMBEDDER, "input": "water", "request_id": "r"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    models = models_file(tmp_path_factory.mktemp("models"), EMBEDDER, RERANKER)
    arguments = ["--models-file", str(models), "--job-workers", "1", "--max-request-bytes", "100000"]
    with serving(*arguments, model=None) as running:
        yield running
        assert "Traceback" not in running.output


@pytest.fixture(scope="module")
def caller(server: Millpond) -> Iterator[Caller]:
    found = Caller(server)
    yield found
    found.http.close()


def prefer(caller: Caller, *values: str, path: str = EMBEDDINGS, body: Any = None, **headers: str) -> httpx.Response:
    lines = [("Prefer", value) for value in values] + [(k.replace("_", "-"), v) for k, v in headers.items()]
    return caller.http.post(path, json=BODY if body is None else body, headers=httpx.Headers(lines))


def test_a_call_that_prefers_to_be_answered_later_becomes_a_job(caller: Caller) -> None:
    live = caller.http.post(EMBEDDINGS, json=BODY)
    reply = prefer(caller, "Respond-Async", Millpond_Lane="bulk")
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "respond-async")
    job = caller.ended(reply.json()["id"])
    assert (job["status"], job["lane"]) == ("succeeded", "bulk")
    assert_one_answer(caller.result(job["id"]).content, live.content)
    assert reply.headers["location"] == f"/v1/jobs/{job['id']}"


@pytest.mark.parametrize("values", [["wait=30"], ["respond-async", "wait=30"], ['respond-async, wait="30", x;y=z']])
def test_a_call_that_prefers_to_wait_is_answered_as_without(caller: Caller, values: list[str]) -> None:
    live = caller.http.post(EMBEDDINGS, json=BODY)
    reply = prefer(caller, *values)
    assert (reply.status_code, reply.headers["preference-applied"]) == (200, "wait=30")
    assert_one_answer(reply.content, live.content)
    assert caller.http.get(reply.headers["location"]).json()["status"] == "succeeded"
    framed = prefer(caller, *values, Accept="application/octet-stream")
    assert framed.headers["content-type"] == "application/octet-stream"


def test_a_call_that_waits_no_longer_is_told_where_its_job_is(server: Millpond, caller: Caller) -> None:
    with held_still(server):
        with taking(0.9, 3):
            reply = prefer(caller, "wait=1", Idempotency_Key="waiting")
        assert (reply.status_code, reply.headers["preference-applied"]) == (202, "respond-async")
        with taking(0.9, 3):
            at_deadline = prefer(caller, "wait=30", Millpond_Deadline_Ms="1500")
        assert at_deadline.status_code == 202
    again = prefer(caller, "wait=30", Idempotency_Key="waiting")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.headers["location"] == reply.headers["location"]


def test_preferences_that_ask_for_nothing_known_change_nothing(server: Millpond, caller: Caller) -> None:
    before = submissions(server)
    for value in ("handling=lenient", "wait", "wait=soon", "wait=-1", "", ",;=,", "return=minimal"):
        reply = prefer(caller, value)
        assert reply.status_code == 200, reply.text
        assert "preference-applied" not in reply.headers
    assert caller.http.post("/tokenize", json={"prompt": "a"}, headers={"Prefer": "respond-async"}).status_code == 200
    assert submissions(server) == before


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (EMBEDDINGS, {**BODY, "input": "a " * 99}, 400),
        ("/v2/embed", {"model": EMBEDDER, "texts": "x"}, 400),
        ("/embed", {"inputs": []}, 400),
        ("/rerank", {"query": "q", "texts": 3}, 422),
        (EMBEDDINGS, {**BODY, "input": "a" * 100_001}, 413),
    ],
)
def test_a_call_that_becomes_a_job_is_refused_in_the_form_of_its_route(
    caller: Caller, path: str, body: Any, status: int
) -> None:
    live = caller.http.post(path, json=body)
    reply = prefer(caller, "respond-async", path=path, body=body)
    assert (reply.status_code, reply.content) == (live.status_code, live.content)
    assert live.status_code == status


def test_a_body_of_another_type_is_refused_as_without(caller: Caller) -> None:
    content, headers = json.dumps(BODY).encode(), {"Content-Type": "text/plain", "Prefer": "respond-async"}
    assert caller.http.post(EMBEDDINGS, content=content, headers=headers).status_code == 415
