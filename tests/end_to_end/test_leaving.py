"""What a caller left, or its deadline overtook, is never begun by a worker; and the metrics say so."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import eventually
from tests.end_to_end.pooling_routes import EMBEDDER, JUDGE, WAYS, Body, Way, models_file
from tests.end_to_end.waiting import ending_as, held_still, metric, taking, waits
from tests.server import Millpond, client_of, serving

REQUEST_TIMEOUT = 5.0
LATE_SECONDS = 0.5
"""How much later than the deadline a caller may hear of it."""

ITEMS = 8

ONE_A_DIALECT = [
    next(way for way in WAYS if (way.path, way.model) == wanted)
    for wanted in [
        ("/v1/embeddings", EMBEDDER),
        ("/v1/chat/reward", JUDGE),
        ("/get_reward", JUDGE),
        ("/embed", EMBEDDER),
        ("/v2/embed", EMBEDDER),
        ("/v1/rerank", EMBEDDER),
        ("/pooling", EMBEDDER),
    ]
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    path = models_file(tmp_path_factory.mktemp("leaving"), EMBEDDER, JUDGE)
    # Batches so small that some items are on their way to the worker, and the rest waits in the lane.
    options = ["--request-timeout", str(REQUEST_TIMEOUT), "--max-num-seqs", "2"]
    with serving("--models-file", str(path), *options, model=None) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Millpond) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


def body_of(way: Way) -> Body:
    return {"model": way.model, **(way.many(ITEMS) if way.many else way.long(way.limit))}


def items_of(way: Way) -> int:
    """How many items a body has: where documents are read alone, the query is one more."""
    return (ITEMS if way.many else 1) + bool(way.others)


def check_well(server: Millpond, client: httpx.Client, way: Way) -> None:
    """The next call is answered, and counted as such: what was not counted before was not for want of counting."""
    with ending_as(server, way.model, answered=items_of(way), begun=items_of(way)):
        assert client.post(way.path, json=body_of(way)).status_code == 200


@pytest.mark.parametrize("way", ONE_A_DIALECT, ids=str)
def test_what_a_caller_left_behind_is_never_begun(server: Millpond, client: httpx.Client, way: Way) -> None:
    items, body = items_of(way), json.dumps(body_of(way)).encode()
    head = f"POST {way.path} HTTP/1.1\r\nHost: mill\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"

    def left() -> float:
        return metric(server, "millpond_requests_total", route=way.path, status="499")

    before = left()
    with ending_as(server, way.model, abandoned=items), held_still(server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            waits(server, way.model, items)
        eventually(lambda: left() == before + 1)
    check_well(server, client, way)


@pytest.mark.parametrize("way", ONE_A_DIALECT, ids=str)
def test_what_its_callers_deadline_has_passed_is_answered_then_and_never_begun(
    server: Millpond, client: httpx.Client, way: Way
) -> None:
    with ending_as(server, way.model, expired=items_of(way)), held_still(server), taking(0.6, 0.6 + LATE_SECONDS):
        reply = client.post(way.path, json=body_of(way), headers={"Millpond-Deadline-Ms": "600"})
    check_late(reply, way, "within 0.6 seconds (Millpond-Deadline-Ms)")
    check_well(server, client, way)


def test_a_deadline_that_passes_before_there_are_items_is_kept_too(server: Millpond, client: httpx.Client) -> None:
    # Words without end take the tokenizer seconds.
    way, texts = ONE_A_DIALECT[0], ["word" * 500] * 2_048
    with ending_as(server, way.model), taking(0.3, 0.3 + LATE_SECONDS):
        body = {**body_of(way), "input": texts, "truncate_prompt_tokens": -1}
        reply = client.post(way.path, json=body, headers={"Millpond-Deadline-Ms": "300"})
    check_late(reply, way, "within 0.3 seconds (Millpond-Deadline-Ms)")
    check_well(server, client, way)


def test_a_body_that_does_not_come_is_waited_for_no_longer(server: Millpond) -> None:
    head = b"POST /embed HTTP/1.1\r\nHost: mill\r\nContent-Length: 50\r\nMillpond-Deadline-Ms: 300\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        with taking(0.3, 0.3 + LATE_SECONDS):
            connection.sendall(head)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 504")


def test_the_servers_own_deadline_is_the_earlier_one_for_who_names_none_or_a_later(
    server: Millpond, client: httpx.Client
) -> None:
    way = ONE_A_DIALECT[0]

    def late(headers: dict[str, str]) -> httpx.Response:
        with taking(REQUEST_TIMEOUT, REQUEST_TIMEOUT + LATE_SECONDS):
            return client.post(way.path, json=body_of(way), headers=headers)

    given = [{}, {"Millpond-Deadline-Ms": "60000"}]
    with (
        ending_as(server, way.model, expired=len(given) * items_of(way)),
        held_still(server),
        ThreadPoolExecutor() as threads,
    ):
        for reply in threads.map(late, given):
            check_late(reply, way, f"within {REQUEST_TIMEOUT:g} seconds (--request-timeout)")
    check_well(server, client, way)


def check_late(reply: httpx.Response, way: Way, said: str) -> None:
    """A 504 in the form of the dialect."""
    assert reply.status_code == 504, reply.text
    assert said in reply.text
    told = reply.json()
    match way.form:
        case "tei":
            assert told == {"error": told["error"], "error_type": "Backend"}
        case "cohere":
            assert set(told) == {"message"}
        case "vllm":
            assert (told["error"]["type"], told["error"]["code"]) == ("InternalServerError", 504)
        case _:
            assert (told["error"]["type"], told["error"]["code"]) == ("server_error", "deadline_exceeded")
