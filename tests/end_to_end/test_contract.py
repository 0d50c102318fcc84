"""No request, however wrong, is answered by a 5xx or not at all: made from the OpenAPI document, and from bytes."""

import asyncio
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import GOLDEN, Millpond, client_of, serving

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".venv-clients" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
MODELS = {"embedding": GOLDEN / "tiny-bert", "cross encoder": GOLDEN / "families" / "bert-cross-encoder"}

CALLERS = 8
PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module", params=MODELS)
def server(request: pytest.FixtureRequest) -> Iterator[Millpond]:
    # With a process for jobs: who waits for a job that nobody runs waits long.
    with serving("--job-workers", "1", model=MODELS[request.param]) as server:
        yield server


def check_well(server: Millpond) -> None:
    with client_of(server) as client:
        assert client.get("/ready").status_code == 200
    assert "Traceback" not in server.output, server.output


def generate(server: Millpond, phases: str, requests_a_route: int, seconds: int, folder: Path) -> int:
    """Requests that schemathesis made, all answered as the document says."""
    assert SCHEMATHESIS.exists(), "make .venv-clients/installed"
    options = ["--max-examples", str(requests_a_route), "--checks", CHECKS, "--request-timeout", "30"]
    command = [str(SCHEMATHESIS), "run", f"{server.url}/openapi.json", "--no-color", "--phases", phases, *options]
    found = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=folder)
    assert found.returncode == 0, found.stdout[-6_000:] + found.stderr[-2_000:]
    return int(found.stdout.rpartition(" generated")[0].split()[-1].replace(",", ""))


def test_requests_made_from_the_openapi_document_get_the_answers_that_it_promises(
    server: Millpond, tmp_path: Path
) -> None:
    assert generate(server, "examples,fuzzing", 8, 250, tmp_path) > 200
    check_well(server)


@pytest.mark.soak
def test_five_thousand_requests_made_from_the_openapi_document(server: Millpond, tmp_path: Path) -> None:
    made = generate(server, "examples,coverage,fuzzing", 100, 1_800, tmp_path)
    print(made)
    assert made >= 5_000
    check_well(server)


def test_bytes_that_are_almost_requests_are_answered(server: Millpond) -> None:
    statuses = asyncio.run(fuzz(server, 1_500))
    assert max(statuses) < 500, statuses
    check_well(server)


@pytest.mark.soak
def test_twenty_thousand_bodies_that_are_almost_requests_are_answered(server: Millpond) -> None:
    statuses = asyncio.run(fuzz(server, 20_000))
    print(dict(sorted(statuses.items())))
    assert max(statuses) < 500, statuses
    check_well(server)


async def fuzz(server: Millpond, count: int) -> dict[int, int]:
    """Sends so many spoilt examples, some at once; how often each status came back."""
    with client_of(server) as blocking:
        document = blocking.get("/openapi.json").json()
    seeds = [
        (path, json.dumps(example).encode())
        for path, operations in document["paths"].items()
        for example in _examples(operations.get("post", {}))
    ]
    chance, statuses = random.Random(4), dict[int, int]()
    bodies = iter([(path, spoilt(body, chance)) for path, body in chance.choices(seeds, k=count)])

    async def caller(client: httpx.AsyncClient) -> None:
        for path, body in bodies:
            reply = await client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert reply.status_code < 500, (path, body, reply.text)
            statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1

    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
        await asyncio.gather(*(caller(client) for _ in range(CALLERS)))
    assert sum(statuses.values()) == count
    return statuses


def spoilt(body: bytes, chance: random.Random) -> bytes:
    """A body with a few bytes changed, or with a value in place of another."""
    found = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(found) + 1)
        match chance.randrange(7):
            case 0:
                found[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                found[place:place] = chance.randbytes(chance.randint(1, 8))
            case 2:
                del found[place : place + chance.randint(1, 20)]
            case 3:
                del found[place:]
            case 4:
                found[place:place] = found[: chance.randint(1, len(found) or 1)]
            case 5:
                found = bytearray(chance.choice(WHOLE))
            case _:
                found = replaced(found, chance)
    return bytes(found)


WHOLE = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'""',
    b"[" * 2_000,
    b'{"a":' * 500,
    b"\xff\xfe\x00",
    b"\x1f\x8b\x08\x00",
    b"-",
)
VALUES = (
    b"null", b"true", b"-1", b"0", b"1e400", b"9223372036854775808", b"99999999999999999999999999", b"1.5", b'""',
    b'"\\u0000"', b'"\\ud800"', b"[]", b"{}", b"[[]]", b"[null]", b'[{"type":"text"}]', b'"' + b"x" * 5_000 + b'"',
    b"[0]", b"[-1]", b"[1e9]",
    b"NaN", b'"\xf0\x9f\x99\x82"', b'"\xc3\x28"',
)  # fmt: skip


def replaced(body: bytearray, chance: random.Random) -> bytearray:
    """The body with another value behind one of its colons."""
    places = [place for place, byte in enumerate(body) if byte == ord(":")]
    if not places:
        return body
    place = chance.choice(places) + 1
    ends = [end for mark in (b",", b"}") if (end := body.find(mark, place)) >= 0]
    return body[:place] + chance.choice(VALUES) + body[min(ends, default=len(body)) :]


def _examples(operation: dict[str, object]) -> list[object]:
    body = operation.get("requestBody", {})
    assert isinstance(body, dict)
    content = body.get("content", {}).get("application/json", {})
    if "example" in content:
        return [content["example"]]
    return [each["value"] for each in content.get("examples", {}).values()]
