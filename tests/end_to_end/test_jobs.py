"""Jobs, from their submission to their results, by the queue's own routes."""

import re
import struct
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from api.keyfile import KeyEntry, add_entry, digest_of, remove_entry
from scheduler.keys import JOBS
from tests.answers import assert_one_answer
from tests.conftest import eventually
from tests.end_to_end.job_calls import Caller, submissions
from tests.end_to_end.pooling_routes import EMBEDDER, RERANKER, WAYS, Way, models_file
from tests.end_to_end.waiting import held_still, metric, taking
from tests.scheduler.test_durability import redis_with
from tests.server import Millpond, redis_of, serving

KEYS: dict[str, dict[str, Any]] = {
    "ann": {},
    "bob": {},
    "slow": {"concurrency": 1},
    "gone": {},
    "few": {"tokens_per_minute": 30},
}
RESULT_TTL = 1_000
EMBEDDINGS = "/v1/embeddings"
BODY = {"model": EMBEDDER, "input": "water", "request_id": "r"}

WAYS_SERVED = [way for way in WAYS if way.model in (EMBEDDER, RERANKER)]


@pytest.fixture(scope="module")
def key_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        path = Path(directory) / "keys.toml"
        for name, limits in KEYS.items():
            entry = {"sha256": digest_of(f"key-of-{name}".encode()).hex(), **limits}
            add_entry(path, name, KeyEntry.model_validate(entry))
        yield path


@pytest.fixture(scope="module")
def server(key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    models = models_file(tmp_path_factory.mktemp("models"), EMBEDDER, RERANKER)
    arguments = ["--models-file", str(models), "--key-file", str(key_file), "--job-workers", "1"]
    with serving(
        *arguments,
        "--result-ttl",
        str(RESULT_TTL),
        "--max-request-bytes",
        "100000",
        "--webhook-allow",
        "127.0.0.1",
        model=None,
    ) as running:
        yield running
        assert "Traceback" not in running.output


@pytest.fixture(scope="module")
def callers(server: Millpond) -> Iterator[dict[str, Caller]]:
    found = {name: Caller(server, f"key-of-{name}") for name in KEYS}
    yield found
    for each in found.values():
        each.http.close()


@pytest.fixture
def ann(callers: dict[str, Caller]) -> Caller:
    return callers["ann"]


@pytest.fixture
def bob(callers: dict[str, Caller]) -> Caller:
    return callers["bob"]


@pytest.mark.parametrize("way", WAYS_SERVED, ids=str)
def test_every_route_answers_a_job_in_the_bytes_of_a_call(ann: Caller, way: Way) -> None:
    body = {"model": way.model, "request_id": "r", **way.long(20)}
    live = ann.http.post(way.path, json=body)
    assert live.status_code == 200, live.text
    job_id = ann.submitted(way.path, body)
    job = ann.ended(job_id)
    assert (job["status"], job["status_code"], job["attempts"], job["error"]) == ("succeeded", 200, 1, None)
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] < job["expires_at"]
    assert job["result_expires_at"] - job["finished_at"] in (RESULT_TTL, RESULT_TTL + 1)
    reply = ann.result(job_id)
    assert (reply.status_code, reply.headers["content-type"]) == (200, live.headers["content-type"])
    # Cohere's replies are named after the call: the one after the job, the other after its own.
    own = live.headers["x-request-id"].encode()
    assert_one_answer(reply.content.replace(job_id.encode(), b""), live.content.replace(own, b""))
    assert reply.content in ann.get(job_id).content, "the result stands in the job in its very bytes"


def test_a_framed_reply_is_fetched_as_it_is(ann: Caller) -> None:
    frames = "application/octet-stream"
    live = ann.http.post("/embed", json={"inputs": "water", "model": EMBEDDER}, headers={"Accept": frames})
    job_id = ann.submitted("/embed", {"inputs": "water", "model": EMBEDDER}, accept=frames)
    job = ann.ended(job_id)
    assert (job["status"], job["result"], job["result_url"]) == ("succeeded", None, f"/v1/jobs/{job_id}/result")
    reply = ann.http.get(job["result_url"])
    assert reply.headers["content-type"] == frames
    (length,) = struct.unpack_from("<I", live.content, 4)
    assert reply.content[: 8 + length] == live.content[: 8 + length]
    vectors = [np.frombuffer(each, "<f4", offset=8 + length) for each in (reply.content, live.content)]
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "status", "param", "said"),
    [
        ({"endpoint": "/v1/models", "body": {}}, 400, "endpoint", "/v1/embeddings"),
        ({"endpoint": "/v1/jobs", "body": {}}, 400, "endpoint", "/v2/rerank"),
        ({"endpoint": EMBEDDINGS}, 400, "body", "required"),
        ({"body": {}}, 400, "endpoint", "required"),
        ({"endpoint": EMBEDDINGS, "body": 7}, 400, None, "JSON object"),
        ({"endpoint": EMBEDDINGS, "body": BODY, "lane": "fast"}, 400, "lane", "interactive"),
        ({"endpoint": EMBEDDINGS, "body": BODY, "expires_in": 0}, 400, "expires_in", "greater"),
        ({"endpoint": EMBEDDINGS, "body": BODY, "expires_in": 10**7}, 400, "expires_in", "2592000"),
        ({"endpoint": EMBEDDINGS, "body": BODY, "webhook": "http://127.0.0.1/"}, 400, "webhook", "secret"),
        ({"endpoint": EMBEDDINGS, "body": {**BODY, "input": "a " * 99}}, 400, "body.input", "101 tokens"),
        ({"endpoint": EMBEDDINGS, "body": {**BODY, "model": "none"}}, 404, "body.model", EMBEDDER),
        ({"endpoint": EMBEDDINGS, "body": {**BODY, "model": RERANKER}}, 400, "body.model", "is served for"),
        ({"endpoint": "/embed", "body": {"inputs": []}}, 400, "body.inputs", "inputs"),
        ({"endpoint": "/rerank", "body": {"query": "q", "texts": 3}}, 400, "body.texts", "texts"),
    ],
    ids=str,
)
def test_what_could_never_pass_is_refused_at_once(
    server: Millpond, ann: Caller, fields: dict[str, Any], status: int, param: str | None, said: str
) -> None:
    before = submissions(server)
    reply = ann.http.post("/v1/jobs", json=fields)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["param"] == param
    assert said in reply.json()["error"]["message"]
    assert submissions(server) == before


def test_a_body_that_nests_too_deeply_to_be_kept_is_refused(ann: Caller) -> None:
    deep = b'{"endpoint": "/v1/embeddings", "body": ' + b"[" * 600 + b"]" * 600 + b"}"
    reply = ann.http.post("/v1/jobs", content=deep, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "body")


def test_a_key_that_could_never_send_so_much_is_told_so_at_once(server: Millpond, callers: dict[str, Caller]) -> None:
    reply = callers["few"].submit(EMBEDDINGS, {**BODY, "input": ["water"] * 11})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "request_over_rate_limit")


def test_a_job_is_seen_by_its_own_key_only(ann: Caller, bob: Caller) -> None:
    job_id = ann.submitted(EMBEDDINGS, BODY)
    assert re.fullmatch("job_[0-9a-f]{32}", job_id)
    for caller, wanted in ((bob, 404), (ann, 200)):
        assert caller.get(job_id).status_code == wanted
        assert caller.http.post(f"/v1/jobs/{job_id}/cancel").status_code == wanted
        assert caller.http.delete(f"/v1/jobs/{job_id}").status_code == wanted
    assert bob.result(job_id).status_code == 404
    assert ann.get("job_" + "0" * 32).json()["error"]["code"] == "job_not_found"
    assert job_id not in bob.http.get("/v1/jobs", params={"limit": 100}).text
    assert bob.http.get("/v1/jobs", params={"after": job_id}).status_code == 400


def test_a_job_that_waits_tells_its_place_and_the_longer_it_has_the_later_to_ask_again(
    server: Millpond, ann: Caller, bob: Caller
) -> None:
    with held_still(server):
        # As many as run at once fill all room, so that the next ones wait.
        running = [ann.submitted(EMBEDDINGS, BODY) for _ in range(64)]
        ann.stands(running[-1], "running")
        reply = ann.submit(EMBEDDINGS, BODY)
        waiting = [reply.json()["id"], ann.submitted(EMBEDDINGS, BODY), bob.submitted(EMBEDDINGS, BODY)]
        assert (reply.status_code, reply.json()["status"], reply.headers["retry-after"]) == (202, "queued", "1")
        assert ann.submit(EMBEDDINGS, BODY, lane="interactive").json()["position"] == 1
        assert [metric(server, "millpond_jobs", status=each) for each in ("running", "queued")] == [64, 4]
        places = [caller.job(each)["position"] for caller, each in zip((ann, ann, bob), waiting, strict=True)]
        assert places == [2, 3, 1]
        done = ann.result(waiting[0])
        assert (done.status_code, done.json()["error"]["code"]) == (409, "job_not_done")
        assert int(done.headers["retry-after"]) >= 1
        assert ann.http.post(f"/v1/jobs/{waiting[0]}/cancel").json()["status"] == "cancelled"
        assert ann.job(waiting[1])["position"] == 2
    assert ann.ended(waiting[1])["status"] == "succeeded"
    assert bob.ended(waiting[2])["status"] == "succeeded"
    assert ann.job(waiting[0])["attempts"] == 0, "what was cancelled is never begun"


def test_a_running_job_that_is_cancelled_ends_at_once_and_costs_nothing_more(server: Millpond, ann: Caller) -> None:
    with held_still(server):
        job_id = ann.submitted(EMBEDDINGS, BODY)
        ann.stands(job_id, "running")
        with taking(0, 2):
            replies = [ann.http.delete(f"/v1/jobs/{job_id}") for _ in range(2)]
        assert [each.json()["status"] for each in replies] == ["cancelled"] * 2
        with redis_of(server) as redis:
            eventually(lambda: not redis.keys(f"millpond:{{{EMBEDDER}}}:request:*"), 10)
    assert ann.result(job_id).json()["error"]["code"] == "job_cancelled"
    assert ann.job(job_id)["result"] is None


def test_a_final_job_is_not_changed_by_cancelling_it(ann: Caller) -> None:
    job_id = ann.submitted(EMBEDDINGS, BODY)
    before = ann.ended(job_id)
    assert ann.http.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "succeeded"
    assert ann.job(job_id) == before


def test_a_job_expires_while_it_waits_and_while_it_runs(
    server: Millpond, ann: Caller, callers: dict[str, Caller]
) -> None:
    slow = callers["slow"]
    with held_still(server):
        began = time.monotonic()
        running = ann.submitted(EMBEDDINGS, BODY, expires_in=2)
        for _ in range(2):
            slow.submitted(EMBEDDINGS, BODY, expires_in=600)
        waiting = slow.submitted(EMBEDDINGS, BODY, expires_in=2)
        found = [ann.ended(running), slow.ended(waiting)]
        assert 1.5 < time.monotonic() - began < 8
    assert [each["status"] for each in found] == ["expired"] * 2
    assert [each["error"]["error"]["code"] for each in found] == ["deadline_exceeded"] * 2
    assert ann.result(running).status_code == 504


def test_a_result_whose_time_is_over_is_gone(server: Millpond, ann: Caller, bob: Caller) -> None:
    job_id = ann.submitted(EMBEDDINGS, BODY)
    ann.ended(job_id)
    with redis_of(server) as redis:
        assert 0 < redis.pttl(f"{JOBS}job:{job_id}") <= RESULT_TTL * 1000
        redis.pexpire(f"{JOBS}job:{job_id}", 1)
        redis.zadd(f"{JOBS}jobs:due", {job_id: 1})
    eventually(lambda: ann.get(job_id).status_code == 410)
    assert ann.result(job_id).json()["error"]["code"] == "result_expired"
    assert ann.http.delete(f"/v1/jobs/{job_id}").status_code == 410
    assert bob.get(job_id).status_code == 404
    eventually(lambda: job_id not in ann.http.get("/v1/jobs", params={"limit": 100}).text)


def test_a_long_poll_ends_with_the_job_and_not_before(server: Millpond, ann: Caller) -> None:
    with held_still(server):
        job_id = ann.submitted(EMBEDDINGS, BODY)
        with taking(0.9, 3):
            assert ann.get(job_id, wait=1).json()["status"] in ("queued", "running")
        with ThreadPoolExecutor(1) as pool:
            polling = pool.submit(ann.get, job_id, 30)
            eventually(lambda: ann.job(job_id)["status"] == "running")
            began = time.monotonic()
            ann.http.delete(f"/v1/jobs/{job_id}")
            assert polling.result(10).json()["status"] == "cancelled"
            assert time.monotonic() - began < 1, "by the news of its end, not by looking now and then"
    for wrong in ("61", "-1", "soon"):
        reply = ann.http.get(f"/v1/jobs/{job_id}", params={"wait": wrong})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "wait")


def test_a_lost_message_costs_a_long_poll_two_seconds(server: Millpond, ann: Caller) -> None:
    with held_still(server), ThreadPoolExecutor(1) as pool, redis_of(server) as redis:
        job_id = ann.submitted(EMBEDDINGS, BODY)
        ann.stands(job_id, "running")
        polling = pool.submit(ann.get, job_id, 30)
        eventually(lambda: redis.pubsub_numsub(f"{JOBS}jobs:news")[0][1] >= 1)
        redis.hset(f"{JOBS}job:{job_id}", "status", "failed")  # what nobody tells of
        with taking(0, 5):
            assert polling.result(10).json()["status"] == "failed"


def test_a_caller_that_knows_how_a_job_stands_is_told_only_of_a_change(server: Millpond, ann: Caller) -> None:
    with held_still(server):
        job_id = ann.submitted(EMBEDDINGS, BODY)
        ann.stands(job_id, "running")
        etag = ann.get(job_id).headers["etag"]
        same = ann.get(job_id, etag=etag)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert same.headers["retry-after"]
        with taking(0.9, 3):
            assert ann.get(job_id, wait=1, etag=f"W/{etag}").status_code == 304
    changed = ann.get(job_id, wait=30, etag=etag)
    assert (changed.status_code, changed.json()["status"]) == (200, "succeeded")
    assert "retry-after" not in changed.headers


def test_jobs_are_listed_in_pages(server: Millpond, callers: dict[str, Caller]) -> None:
    caller = callers["few"]
    ids = [caller.submitted(EMBEDDINGS, {**BODY, "input": "a"}) for _ in range(5)]
    for each in ids:
        caller.ended(each)

    def page(**query: Any) -> dict[str, Any]:
        reply = caller.http.get("/v1/jobs", params=query)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    first = page(limit=2)
    assert [each["id"] for each in first["data"]] == ids[:2:-1]
    assert (first["object"], first["has_more"], first["first_id"], first["last_id"]) == ("list", True, ids[4], ids[3])
    assert "result" not in first["data"][0]
    rest = page(limit=3, after=ids[3])
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (ids[2::-1], False)
    assert [each["id"] for each in page(order="asc", after=ids[0], limit=1)["data"]] == [ids[1]]
    assert [each["id"] for each in page(status="succeeded")["data"]] == ids[::-1]
    assert page(status="failed") == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    for query in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"status": "done"}, {"after": "job_1"}):
        reply = caller.http.get("/v1/jobs", params=query)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(query)))


def test_fifty_submissions_at_once_with_one_idempotency_key_are_one_job(server: Millpond, ann: Caller) -> None:
    before, key = submissions(server), str(uuid.uuid4())
    with ThreadPoolExecutor(50) as pool:
        headers = {"Idempotency-Key": key}
        replies = list(pool.map(lambda _: ann.submit(EMBEDDINGS, BODY, headers=headers), range(50)))
    assert {each.status_code for each in replies} <= {200, 202}
    (job_id,) = {each.json()["id"] for each in replies}
    assert sum("idempotent-replayed" not in each.headers for each in replies) == 1
    assert submissions(server) == before + 1
    ann.ended(job_id)
    again = ann.submit(EMBEDDINGS, BODY, headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, job_id, "succeeded")
    assert again.headers["idempotent-replayed"] == "true"


def test_an_idempotency_key_is_one_calls_and_one_owners(ann: Caller, bob: Caller) -> None:
    headers = {"Idempotency-Key": "an order"}
    first = ann.submit(EMBEDDINGS, BODY, headers=headers).json()["id"]
    other = ann.submit(EMBEDDINGS, {**BODY, "input": "stone"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert first in other.json()["error"]["message"]
    assert bob.submit(EMBEDDINGS, BODY, headers=headers).json()["id"] != first
    for wrong in ("", "x" * 256, "\xe9"):
        reply = ann.submit(EMBEDDINGS, BODY, headers={"Idempotency-Key": wrong.encode("latin-1")})  # type: ignore[dict-item]
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_jobs_of_a_limited_key_wait_for_their_limit_and_all_end(server: Millpond, callers: dict[str, Caller]) -> None:
    slow = callers["slow"]
    with taking(0, 10):
        ids = [slow.submitted(EMBEDDINGS, BODY) for _ in range(30)]
        found = [slow.ended(each) for each in ids]
    assert [each["status"] for each in found] == ["succeeded"] * 30
    assert max(each["attempts"] for each in found) == 1, "what a limit sends back was no attempt"


def test_a_job_of_a_revoked_key_fails_with_its_401(
    server: Millpond, key_file: Path, ann: Caller, callers: dict[str, Caller]
) -> None:
    gone = callers["gone"]
    with held_still(server):
        for _ in range(64):
            ann.submitted(EMBEDDINGS, BODY)
        job_id = gone.submitted(EMBEDDINGS, BODY)
        assert gone.job(job_id)["status"] == "queued"
        remove_entry(key_file, "gone")
        assert gone.get(job_id).status_code == 401
    with redis_of(server) as redis:
        eventually(lambda: redis.hget(f"{JOBS}job:{job_id}", "status") == b"failed", 30)
        assert redis.hget(f"{JOBS}job:{job_id}", "code") == b"401"
        assert b"'gone'" in redis.hget(f"{JOBS}job:{job_id}", "reply")


def test_a_job_that_ten_processes_did_not_survive_is_given_up(server: Millpond, ann: Caller) -> None:
    with held_still(server):
        for _ in range(64):
            ann.submitted(EMBEDDINGS, BODY)
        job_id = ann.submitted(EMBEDDINGS, BODY)
        with redis_of(server) as redis:
            redis.hset(f"{JOBS}job:{job_id}", "attempts", 10)
    job = ann.ended(job_id)
    assert (job["status"], job["status_code"], job["error"]["error"]["code"]) == ("failed", 500, "job_given_up")


def test_the_end_of_a_job_hands_in_the_webhook_that_tells_of_it(server: Millpond, ann: Caller) -> None:
    webhook = {"url": "http://127.0.0.1:9/hook", "secret": "whsec_" + "c2VjcmV0" * 6}
    with held_still(server):
        cancelled = ann.submitted(EMBEDDINGS, BODY, webhook=webhook)
        ann.http.delete(f"/v1/jobs/{cancelled}")
        expired = ann.submitted(EMBEDDINGS, BODY, webhook=webhook, expires_in=1)
        ann.ended(expired)
    succeeded = ann.submitted(EMBEDDINGS, BODY, webhook=webhook)
    ann.ended(succeeded)
    with redis_of(server) as redis:
        told = [orjson.loads(redis.hget(key, "payload")) for key in redis.keys(f"{JOBS}webhook:*")]
    assert {(each["type"], each["data"]["id"]) for each in told} == {
        ("job.cancelled", cancelled),
        ("job.expired", expired),
        ("job.succeeded", succeeded),
    }


def test_a_redis_that_keeps_nothing_on_disk_gets_no_jobs() -> None:
    with redis_with(appendonly="no") as redis, serving("--redis-url", redis.url) as server:
        jobs = Caller(server)
        preferring = jobs.http.post(EMBEDDINGS, json={"input": "a"}, headers={"Prefer": "respond-async"})
        for reply in (jobs.submit(EMBEDDINGS, {"input": "a"}), preferring):
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_not_durable")
            assert "appendonly yes" in reply.json()["error"]["message"]
        assert jobs.http.post(EMBEDDINGS, json={"input": "a"}).status_code == 200
        jobs.http.close()
