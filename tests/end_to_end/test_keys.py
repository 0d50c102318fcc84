"""A server with keys: who is let in, to what, how much of it, and that it can be changed while it serves."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from api.app import create_app
from api.keyfile import KeyEntry, add_entry, digest_of, read_key_file
from api.options import Options
from scheduler.keys import TenantKeys
from scheduler.limits import Limits, admit, leave
from tests.conftest import eventually
from tests.end_to_end.test_launching import refused
from tests.end_to_end.waiting import metric
from tests.server import TINY_BERT, Millpond, client_of, free_ports, redis_of, serving

MODEL = "tiny"
ROOT = "root-key-given-at-the-start"
KEYS = {
    "other": {"models": ["another"]},
    "mine": {"models": [MODEL], "lanes": ["interactive"]},
    "tokens": {"tokens_per_minute": 600},
    "calls": {"concurrency": 1},
}
OPEN = ("/health", "/ready", "/ping")
OF_ONES_OWN = ("/v1/jobs/{job_id}/cancel", "/v1/files", "/v1/batches", "/v1/batches/{batch_id}/cancel")
"""What another key than its own finds nothing at, whatever models it is for."""

EVERYTHING = {
    "model": MODEL,
    "input": "water",
    "inputs": "water",
    "messages": [{"role": "user", "content": "water"}],
    "query": "water",
    "documents": ["water"],
    "ids": [1],
    "tokens": [1],
    "task": "embed",
    "rows": [{"text": "water"}],
    "endpoint": "/v1/embeddings",
    "body": {"model": MODEL, "input": "water"},
}
"""A body that every route can read something from."""


@dataclass(frozen=True)
class Keyed:
    """A running server and its key file."""

    server: Millpond
    path: Path

    def call(self, key: str | None, **fields: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {str(name): str(value) for name, value in fields.pop("headers", {}).items()}  # type: ignore[attr-defined]
        body = {"model": MODEL, "input": "water", **fields}
        # A connection of its own: it may come to either api process.
        return httpx.post(f"{self.server.url}/v1/embeddings", json=body, headers=headers, timeout=60)

    def embedded(self, key: str, count: int = 1, retries: int = 0) -> int:
        """How many embeddings the openai client gets for so many words."""
        with openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=key, max_retries=retries) as client:
            return len(client.embeddings.create(model=MODEL, input=["water"] * count).data)

    def wait_until_read(self, times: int, since: int) -> None:
        """Until so many processes have the keys in force that the file has now, as their lines since then say."""
        pattern = re.compile(f"keys of .* in force: {len(read_key_file(self.path))}$")
        eventually(lambda: len(list(filter(pattern.search, self.server.lines[since:]))) >= times)

    def keys(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "api.cli", "keys", *arguments, "--key-file", str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def keyed() -> Iterator[Keyed]:
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        path = Path(directory) / "keys.toml"
        for name, limits in KEYS.items():
            digest = digest_of(f"key-of-{name}".encode()).hex()
            add_entry(path, name, KeyEntry.model_validate({"sha256": digest, **limits}))
        arguments = ["--key-file", str(path), "--api-key", ROOT, "--served-model-name", MODEL, "--api-workers", "2"]
        with serving(*arguments) as server:
            yield Keyed(server, path)
            for key in (ROOT, *(f"key-of-{name}" for name in KEYS)):
                assert key not in server.output


def every_route() -> list[tuple[str, str]]:
    """Method and path of all that the application serves, documents included."""
    app = create_app(Options(), [])
    found = [
        (method, route.path.replace("{name:path}", MODEL))
        for route in app.routes
        if isinstance(route, APIRoute | Route)
        for method in route.methods or ()
    ]
    found += [
        (method.upper(), path.replace("{name}", MODEL))
        for path, each in app.openapi()["paths"].items()
        for method in each
    ]
    return sorted(set(found))


def test_no_route_is_reached_without_a_key_but_those_that_say_how_the_server_is(keyed: Keyed) -> None:
    routes = every_route()
    assert len(routes) > 10
    assert ("POST", "/v1/embeddings") in routes
    routes += [
        ("GET", "/static-offline-docs/swagger-ui.css"),
        ("GET", "/"),
        ("GET", "/metrics"),
        ("POST", "/no/such"),
        ("GET", "/health/"),
        ("GET", "//health"),
    ]
    with httpx.Client(base_url=keyed.server.url) as client:
        for method, path in routes:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": "wrong"}, {"Authorization": ROOT}):
                reply = client.request(method, path, headers=headers, json=EVERYTHING if method == "POST" else None)
                if path in OPEN:
                    assert reply.status_code != 401, path
                    continue
                assert reply.status_code == 401, f"{method} {path}"
                assert reply.headers["www-authenticate"] == "Bearer"
                assert reply.headers["x-request-id"]


def test_no_route_gives_a_model_to_a_key_for_another(keyed: Keyed) -> None:
    headers = {"Authorization": "Bearer key-of-other"}
    models = {
        ("GET", f"/v1/models/{MODEL}"),
        ("GET", "/info"),
        *(each for each in every_route() if each[0] == "POST" and each[1] not in (*OPEN, *OF_ONES_OWN)),
    }
    assert len(models) > 3
    with httpx.Client(base_url=keyed.server.url, headers=headers) as client:
        for method, path in models:
            reply = client.request(method, path, json=EVERYTHING if method == "POST" else None)
            assert reply.status_code == 403, f"{method} {path}: {reply.text}"
            assert "may not use the model 'tiny'" in reply.text
        assert client.get("/v1/models").json()["data"] == []
        headers["Authorization"] = f"Bearer {ROOT}"
        assert [each["id"] for each in client.get("/v1/models", headers=headers).json()["data"]] == [MODEL]


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key"])
def test_a_key_is_taken_from_each_header_that_clients_use(keyed: Keyed, header: str) -> None:
    value = "bearer key-of-mine" if header == "Authorization" else "key-of-mine"
    assert keyed.call(None, headers={header: value}).status_code == 200


def test_a_key_without_a_lane_is_refused_there(keyed: Keyed) -> None:
    assert keyed.call("key-of-mine").status_code == 200
    reply = keyed.call("key-of-mine", headers={"Millpond-Lane": "bulk"})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "lane_not_allowed"
    assert keyed.call(ROOT, headers={"Millpond-Lane": "bulk"}).status_code == 200


def test_rows_are_refused_in_a_lane_of_others_even_where_nothing_would_be_queued(keyed: Keyed) -> None:
    headers = {"Authorization": "Bearer key-of-mine", "Millpond-Lane": "bulk"}
    with client_of(keyed.server) as client:
        for rows in ({"rows": [{}]}, {"rows": [{"text": "x"}], "render_only": True}):
            reply = client.post("/v1/rows", json={"task": "embed", **rows}, headers=headers)
            assert reply.status_code == 403
            assert reply.json()["error"]["code"] == "lane_not_allowed"


def test_the_openai_client_tells_its_user_what_is_wrong_with_the_key(keyed: Keyed) -> None:
    with pytest.raises(openai.AuthenticationError) as wrong:
        keyed.embedded("wrong")
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as other:
        keyed.embedded("key-of-other")
    assert other.value.code == "model_not_allowed"


def refusals(keyed: Keyed, reason: str) -> float:
    return metric(keyed.server, "millpond_refused_total", model=MODEL, lane="interactive", reason=reason)


def test_tokens_are_limited_over_both_processes_and_the_openai_client_comes_back_in_time(keyed: Keyed) -> None:
    usage = TenantKeys("tokens").usage
    redis = redis_of(keyed.server)
    redis.delete(usage)
    first = keyed.call("key-of-tokens", input=["water"] * 100)
    assert first.status_code == 200, first.text
    tokens = first.json()["usage"]["total_tokens"]
    assert first.headers["x-ratelimit-limit-tokens"] == "600"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) == 600 - tokens
    counted = refusals(keyed, "tokens_per_minute")
    statuses = [keyed.call("key-of-tokens", input=["water"] * 100).status_code for _ in range(6)]
    assert refusals(keyed, "tokens_per_minute") - counted == statuses.count(429)
    assert statuses.count(200) <= 600 // tokens
    assert 429 in statuses
    with pytest.raises(openai.RateLimitError) as limited:
        keyed.embedded("key-of-tokens", count=100)
    assert limited.value.code == "rate_limit_exceeded"
    seconds, milliseconds = (int(limited.value.response.headers[name]) for name in ("retry-after", "retry-after-ms"))
    assert seconds - 1 < milliseconds / 1000 <= seconds
    # Few tokens are missing: as many as come back in less than half a second.
    began = time.monotonic()
    redis.hset(usage, mapping={"used": 600, "at": int(time.time() * 1000)})
    assert keyed.embedded("key-of-tokens", retries=2) == 1
    assert time.monotonic() - began > 0.2


def test_a_call_over_the_whole_limit_hears_that_it_can_never_pass(keyed: Keyed) -> None:
    with pytest.raises(openai.BadRequestError, match="can never pass") as caught:
        keyed.embedded("key-of-tokens", count=601)
    assert caught.value.code == "request_over_rate_limit"


def test_calls_at_once_are_limited_over_all_processes_and_a_place_is_given_back(keyed: Keyed) -> None:
    redis, limits = redis_of(keyed.server), Limits("calls", concurrency=1)
    for _ in range(4):
        assert keyed.call("key-of-calls").status_code == 200, "the one before has given its place back"
    admit(limits, "elsewhere", 0).run_blocking(redis)
    counted = refusals(keyed, "concurrency")
    for _ in range(4):
        reply = keyed.call("key-of-calls")
        assert reply.status_code == 429
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        assert "1 calls at once (concurrency), and 1 run" in reply.json()["error"]["message"]
    assert refusals(keyed, "concurrency") - counted == 4, "whichever process refused them"
    leave(limits, "elsewhere", 1).run_blocking(redis)
    reply = keyed.call("key-of-calls")
    assert reply.status_code == 200
    assert reply.headers["x-ratelimit-limit-requests"] == "1"
    assert keyed.call("key-of-calls", input=[]).status_code == 400
    assert redis.zcard(TenantKeys("calls").calls) == 0


def test_keys_come_and_go_while_it_serves(keyed: Keyed) -> None:
    key = keyed.keys("add", "guest", "--models", MODEL)
    assert [keyed.call(key).status_code for _ in range(6)] == [200] * 6
    since = len(keyed.server.lines)
    keyed.keys("revoke", "guest")
    assert [keyed.call(key).status_code for _ in range(6)] == [401] * 6
    keyed.wait_until_read(times=2, since=since)  # also by the one of the two that all of these may have missed
    good = keyed.path.read_text()
    keyed.path.write_text("[keys")
    assert [keyed.call(each).status_code for each in ("key-of-mine", ROOT, key)] == [200, 200, 401]
    keyed.server.wait_for_line("is not TOML.*stay in force")
    keyed.path.write_text(good)
    assert [keyed.call(each).status_code for each in ("key-of-mine", key)] == [200, 401]


def test_processes_that_nobody_calls_see_a_key_come_and_go(keyed: Keyed) -> None:
    for change in (["add", "visitor"], ["revoke", "visitor"]):
        since = len(keyed.server.lines)
        keyed.keys(*change)
        keyed.wait_until_read(times=2, since=since)


def test_only_the_api_is_told_the_keys_and_nobody_by_its_arguments(keyed: Keyed) -> None:
    launcher = psutil.Process(keyed.server.process.pid)
    family = launcher.children(recursive=True)
    apis = keyed.server.role_processes("api")
    assert len(apis) == 2
    assert len(family) > 4
    for process in family:
        assert ROOT not in " ".join(process.cmdline())
        assert (process.environ().get("MILLPOND_API_KEY") == ROOT) == (process in apis)


def test_a_key_of_the_environment_does_not_reach_the_other_roles() -> None:
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        arguments = ["--model", str(TINY_BERT), "--data-dir", directory]
        server = Millpond("serve", arguments, {"MILLPOND_API_KEY": ROOT})
        try:
            server.wait_for_line("^serving; try")
            server.wait_for_line("callers need a key: 1 by --api-key")
            server.wait_for_line('curl -s .* -H "Authorization: Bearer .MILLPOND_API_KEY"')
            # What runs jobs is an api without a port, and looks up their owners.
            knowing = [*server.role_processes("api"), *server.role_processes("api.jobs")]
            for process in psutil.Process(server.process.pid).children(recursive=True):
                if process not in knowing:
                    assert ROOT not in process.environ().values()
            assert httpx.get(f"{server.url}/v1/models").status_code == 401
            assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": ROOT}).status_code == 200
        finally:
            server.stop()


def test_it_does_not_listen_beyond_loopback_without_a_key_or_a_word(tmp_path: Path) -> None:
    arguments = ["serve", "--model", str(TINY_BERT), "--data-dir", str(tmp_path / "d"), "--host", "0.0.0.0"]
    ports = free_ports(2)
    arguments += ["--port", str(ports[0]), "--metrics-port", str(ports[1])]
    line = refused(*arguments)
    assert "--api-key" in line
    assert "--key-file" in line
    assert "--insecure" in line
    missing = tmp_path / "none.toml"
    assert f"There is no key file {missing}" in refused(*arguments, "--key-file", str(missing))
    with serving("--host", "0.0.0.0", "--insecure") as server:
        assert "WARNING: --insecure: everyone who reaches 0.0.0.0 may call" in server.output
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
