"""Files and batches from upload to output, by the unmodified openai client."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from api.keyfile import KeyEntry, add_entry, digest_of
from tests.conftest import eventually
from tests.server import Millpond, redis_of, serving

SHORT = {"timeout": 30.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    """A server with one process for jobs, two keys, and one that may send little."""
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    few = KeyEntry.model_validate({"sha256": digest_of(b"few").hex(), "tokens_per_minute": 60})
    add_entry(keys, "few", few)
    with serving(
        "--job-workers", "1", "--api-key", "one,two", "--key-file", str(keys), "--max-file-bytes", "3000000"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Millpond) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="one", max_retries=0)


def line(custom_id: str, text: Any, **changes: object) -> dict[str, object]:
    body = {"model": "tiny-bert", "input": text}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body, **changes}


def uploaded(client: openai.OpenAI, lines: list[Any], **fields: Any) -> str:
    data = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    file = client.files.create(file=("in.jsonl", data.encode()), purpose="batch", **fields)
    assert (file.bytes, file.filename, file.purpose) == (len(data.encode()), "in.jsonl", "batch")
    return file.id


def batch_of(client: openai.OpenAI, lines: list[Any], **fields: Any) -> Batch:
    fields = {"completion_window": "24h", **fields}
    return client.batches.create(input_file_id=uploaded(client, lines), endpoint="/v1/embeddings", **fields)


def ended(client: openai.OpenAI, batch: Batch, seconds: float = 60.0) -> Batch:
    return when(lambda: client.batches.retrieve(batch.id), lambda found: found.status in FINAL, seconds)


FINAL = ("completed", "failed", "expired", "cancelled")


def when(look: Callable[[], Batch], is_so: Callable[[Batch], bool], seconds: float = 30.0) -> Batch:
    deadline = time.monotonic() + seconds
    while not is_so(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def content(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def test_a_batch_is_answered_as_its_lines_would_be_one_by_one(server: Millpond, client: openai.OpenAI) -> None:
    texts = [f"pond number {number}" for number in range(250)]
    batch = batch_of(client, [line(f"id-{n}", each) for n, each in enumerate(texts)], metadata={"night": "one"})
    assert (batch.status, batch.metadata, batch.endpoint) == ("validating", {"night": "one"}, "/v1/embeddings")
    statuses, counts = [batch.status], [0]
    while statuses[-1] not in FINAL:
        batch = client.batches.retrieve(batch.id)
        assert batch.request_counts
        statuses.append(batch.status)
        counts.append(batch.request_counts.completed)
    assert set(statuses) <= {"validating", "in_progress", "finalizing", "completed"}
    assert counts == sorted(counts)
    assert batch.status == "completed"
    assert batch.request_counts
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (250, 250, 0)
    assert batch.error_file_id is None
    for name in ("created_at", "in_progress_at", "finalizing_at", "completed_at"):
        assert getattr(batch, name)
    replies = content(client, batch.output_file_id)
    assert [each["custom_id"] for each in replies] == [f"id-{number}" for number in range(250)]
    assert all(each["error"] is None and each["response"]["status_code"] == 200 for each in replies)
    plain = client.embeddings.create(model="tiny-bert", input=texts[:3], encoding_format="float")
    for reply, wanted in zip(replies, plain.data, strict=False):
        assert reply["response"]["body"]["data"][0]["embedding"] == pytest.approx(wanted.embedding, abs=1e-5)
    usage = [each["response"]["body"]["usage"]["total_tokens"] for each in replies]
    assert batch.usage
    assert batch.usage.total_tokens == sum(usage)
    assert not list(server.data_directory.glob("files/batches/*")) if server.data_directory else False


def test_a_batch_of_another_dialect_has_the_very_bytes_of_its_replies(server: Millpond, client: openai.OpenAI) -> None:
    bodies: list[dict[str, Any]] = [{"inputs": "a pond"}, {"inputs": ["a", "mill"], "normalize": False}, {"inputs": []}]
    lines = [line(str(number), "", url="/embed", body=body) for number, body in enumerate(bodies)]
    file_id = uploaded(client, lines)
    made = client.batches.create(input_file_id=file_id, endpoint="/embed", completion_window="24h")  # type: ignore[arg-type]
    batch = ended(client, made)
    assert batch.output_file_id
    assert batch.error_file_id
    written = [*client.files.content(batch.output_file_id).iter_lines()]
    written += client.files.content(batch.error_file_id).iter_lines()
    headers, tokens = {"Authorization": "Bearer one"}, 0
    for body, text in zip(bodies, written, strict=True):
        reply = httpx.post(f"{server.url}/embed", json=body, headers=headers, **SHORT)
        assert json.loads(text)["response"]["status_code"] == reply.status_code
        assert text.endswith(f',"body":{reply.text}}},"error":null}}')
        tokens += int(reply.headers.get("x-compute-tokens", 0))
    assert batch.usage
    assert (batch.usage.input_tokens, batch.usage.total_tokens) == (tokens, tokens)


def test_wrong_lines_fail_the_batch_with_their_numbers(client: openai.OpenAI) -> None:
    lines = [
        line("a", "x"),
        '{"custom_id": "b", ',
        line("c", "x", url="/v1/rerank"),
        line("d", "x"),
        line("a", "x"),
    ]
    batch = ended(client, batch_of(client, lines))
    assert batch.status == "failed"
    assert batch.failed_at
    assert batch.errors
    assert batch.errors.data
    found = {(each.line, each.code) for each in batch.errors.data}
    assert found == {(2, "invalid_json_line"), (3, "mismatched_url"), (5, "duplicate_custom_id")}
    assert batch.output_file_id is None
    assert ended(client, batch_of(client, [])).errors.data[0].code == "empty_file"  # type: ignore[union-attr,index]


def test_lines_that_are_refused_are_in_the_error_file(client: openai.OpenAI) -> None:
    lines = [line("good", "x"), line("long", "a " * 5000), line("empty", ""), line("good too", ["x", "y"])]
    batch = ended(client, batch_of(client, lines))
    assert batch.status == "completed"
    assert batch.request_counts
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 2)
    assert [each["custom_id"] for each in content(client, batch.output_file_id)] == ["good", "good too"]
    refused = content(client, batch.error_file_id)
    assert [each["custom_id"] for each in refused] == ["long", "empty"]
    assert [each["response"]["status_code"] for each in refused] == [400, 400]
    assert refused[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"


def slow_lines(count: int) -> list[dict[str, object]]:
    """Lines that take a while: a hundred texts each."""
    return [line(str(number), [f"{number} {each} mill pond" for each in range(60)]) for number in range(count)]


def test_a_batch_is_cancelled_in_the_middle_with_what_is_done(client: openai.OpenAI) -> None:
    batch = batch_of(client, slow_lines(900))
    look = lambda: client.batches.retrieve(batch.id)  # noqa: E731
    when(look, lambda found: bool(found.request_counts and found.request_counts.completed))
    with pytest.raises(openai.ConflictError, match=batch.id):
        client.files.delete(batch.input_file_id)
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at
    assert batch.request_counts
    done = content(client, batch.output_file_id)
    assert 0 < len(done) == batch.request_counts.completed < 900
    numbers = [int(each["custom_id"]) for each in done]
    assert numbers == sorted(set(numbers))
    assert batch.error_file_id is None
    assert client.batches.cancel(batch.id).status == "cancelled"


def test_a_batch_expires_with_what_is_done_and_tells_the_rest(client: openai.OpenAI) -> None:
    batch = ended(client, batch_of(client, slow_lines(900), completion_window="2s"))
    assert (batch.status, bool(batch.expired_at)) == ("expired", True)
    assert batch.request_counts
    done = content(client, batch.output_file_id) if batch.output_file_id else []
    late = content(client, batch.error_file_id)
    assert {each["error"]["code"] for each in late} == {"batch_expired"}
    assert all(each["response"] is None for each in late)
    assert sorted(int(each["custom_id"]) for each in [*done, *late]) == list(range(900))
    counts = batch.request_counts
    assert (counts.completed, counts.failed, counts.total) == (len(done), len(late), 900)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/chat/completions"}, "endpoint"),
        ({"endpoint": "/v1/batches"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after"),
        ({"webhook": "http://127.0.0.1/x"}, "webhook"),
    ],
)
def test_a_wrong_batch_is_refused(server: Millpond, client: openai.OpenAI, fields: Any, param: str) -> None:
    body = {
        "input_file_id": uploaded(client, [line("a", "x")]),
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        **fields,
    }
    reply = httpx.post(f"{server.url}/v1/batches", json=body, headers={"Authorization": "Bearer one"}, **SHORT)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_batch_that_is_handed_in_again_with_its_idempotency_key_is_one(client: openai.OpenAI) -> None:
    key = {"extra_headers": {"Idempotency-Key": "night one"}}
    asked = {"input_file_id": uploaded(client, [line("a", "x")]), "completion_window": "24h"}
    ids = {client.batches.create(**asked, endpoint="/v1/embeddings", **key).id for _ in range(2)}
    assert len(ids) == 1
    with pytest.raises(openai.UnprocessableEntityError, match=ids.pop()):
        client.batches.create(**asked, endpoint="/v1/embeddings", metadata={"a": "b"}, **key)


def test_files_are_listed_in_pages_looked_at_and_deleted(client: openai.OpenAI) -> None:
    mine = [uploaded(client, [line(str(number), "x")]) for number in range(3)]
    pages = client.files.list(limit=2, purpose="batch")
    found = [each.id for each in pages]
    assert found[:3] == mine[::-1]
    assert client.files.list(order="asc", limit=1).has_more
    assert client.files.retrieve(mine[0]).expires_at == client.files.retrieve(mine[0]).created_at + 2_592_000
    short = uploaded(client, [line("a", "x")], expires_after={"anchor": "created_at", "seconds": 3600})
    file = client.files.retrieve(short)
    assert file.expires_at == file.created_at + 3600
    assert client.files.delete(mine[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(mine[0])
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id=mine[0], endpoint="/v1/embeddings", completion_window="24h")


def test_batches_are_listed_in_pages(client: openai.OpenAI) -> None:
    mine = [batch_of(client, [line("a", "x")]).id for _ in range(3)]
    assert [each.id for each in client.batches.list(limit=2)][:3] == mine[::-1]


def test_another_key_sees_none_of_it(server: Millpond, client: openai.OpenAI) -> None:
    file_id = uploaded(client, [line("a", "x")])
    batch = batch_of(client, [line("a", "x")])
    other = openai.OpenAI(base_url=f"{server.url}/v1", api_key="two", max_retries=0)
    assert not list(other.files.list())
    assert not list(other.batches.list())
    for call in (
        lambda: other.files.retrieve(file_id),
        lambda: other.files.content(file_id),
        lambda: other.files.delete(file_id),
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
        lambda: other.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h"),
    ):
        with pytest.raises(openai.NotFoundError):
            call()


def test_who_waits_for_the_limits_of_its_key_holds_up_nobody_else(server: Millpond, client: openai.OpenAI) -> None:
    few = openai.OpenAI(base_url=f"{server.url}/v1", api_key="few", max_retries=0)
    waiting = [batch_of(few, [line(str(number), "a pond") for number in range(600)]) for _ in range(2)]
    with redis_of(server) as redis:
        eventually(lambda: float(redis.hget("millpond:{tenant:few}:usage", "used") or 0) > 50)
    mine = ended(client, batch_of(client, [line(str(number), "a pond") for number in range(200)]), 20)
    assert mine.request_counts
    assert (mine.status, mine.request_counts.completed) == ("completed", 200)
    for each in waiting:
        assert few.batches.cancel(each.id).status == "cancelling"
    last = [ended(few, each) for each in waiting]
    assert [each.status for each in last] == ["cancelled", "cancelled"]
    done = content(few, last[0].output_file_id)
    assert 0 < len(done) < 40
    assert all(each["response"]["status_code"] == 200 for each in done)


def test_a_file_whose_content_is_lost_is_a_404(server: Millpond, client: openai.OpenAI) -> None:
    file_id = uploaded(client, [line("a", "x")])
    assert server.data_directory
    (server.data_directory / "files" / "content" / file_id).unlink()
    with pytest.raises(openai.NotFoundError):
        client.files.content(file_id)
    batch = ended(
        client, client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="1h")
    )
    assert batch.errors
    assert batch.errors.data
    assert (batch.status, batch.errors.data[0].code) == ("failed", "file_not_found")


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(server: Millpond, client: openai.OpenAI) -> None:
    before = set(stored(server))
    with pytest.raises(openai.APIStatusError) as caught:
        client.files.create(file=("big.jsonl", b"x" * 3_000_001), purpose="batch")
    assert caught.value.status_code == 413
    assert "--max-file-bytes" in caught.value.message
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("a.jsonl", b"x"), purpose="fine-tune")
    assert set(stored(server)) == before


def stored(server: Millpond) -> list[str]:
    assert server.data_directory
    return [path.name for path in server.data_directory.glob("files/content/*")]


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch"])
def test_broken_forms_are_refused(server: Millpond, body: bytes) -> None:
    headers = {"Authorization": "Bearer one", "Content-Type": "multipart/form-data; boundary=x"}
    assert httpx.post(f"{server.url}/v1/files", content=body, headers=headers, **SHORT).status_code == 400
    del headers["Content-Type"]
    assert httpx.post(f"{server.url}/v1/files", content=body, headers=headers, **SHORT).status_code == 400


def test_kills_lose_no_line_and_double_none(server: Millpond, client: openai.OpenAI) -> None:
    batch = batch_of(client, [line(str(number), f"pond {number}") for number in range(1_500)])
    for role in ("api.jobs", "workers", "redis", "api"):
        seen = when(
            lambda: client.with_options(max_retries=8).batches.retrieve(batch.id),
            lambda found, role=role: found.status in FINAL or bool(found.request_counts and found.request_counts.total),
        )
        if seen.status in FINAL:
            break
        server.kill(role)
        done = seen.request_counts.completed if seen.request_counts else 0
        when(
            lambda: client.with_options(max_retries=8).batches.retrieve(batch.id),
            lambda found, done=done: (
                bool(found.request_counts and found.request_counts.completed > done) or found.status in FINAL
            ),
        )
    batch = ended(client.with_options(max_retries=8), batch, 90)
    assert batch.status == "completed"
    assert batch.request_counts
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1_500, 0)
    replies = content(client, batch.output_file_id)
    assert [each["custom_id"] for each in replies] == [str(number) for number in range(1_500)]
    with redis_of(server) as redis:
        assert not redis.keys("millpond:{jobs}:batches:open:*")
        assert not redis.keys("millpond:{jobs}:file:*:readers")
