"""In which order work is done that has waited: by lane, by age, and among a caller's own by its priority; and what the
replies' headers say of the time that it took.
"""

import json
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
from redis import Redis

from api.app import create_app
from api.keyfile import KeyEntry, add_entry, digest_of
from api.options import Options
from scheduler.keys import Lane, ModelKeys
from scheduler.messages import Item
from tests.conftest import eventually
from tests.end_to_end.pooling_routes import EMBEDDER, JUDGE, LABELLER, RERANKER, WAYS, WORD, Body, models_file
from tests.end_to_end.waiting import held_still, metric, waits
from tests.server import Millpond, redis_of, serving

ONE, OTHER = "one", "other"
"""Two callers, by the names of their keys."""

ITEMS = 40
"""Of a call: so many micro-batches of one item, that calls end well apart."""

BODIES: dict[str, Body] = {
    "/v1/embeddings": {"input": [WORD] * ITEMS},
    "/v2/embed": {"texts": [WORD] * ITEMS},
    "/pooling": {"input": [WORD] * ITEMS},
    "/embed": {"inputs": [WORD] * ITEMS},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    folder = tmp_path_factory.mktemp("order")
    keys = folder / "keys.toml"
    for name in (ONE, OTHER):
        add_entry(keys, name, KeyEntry.model_validate({"sha256": digest_of(_key(name)).hex()}))
    models = models_file(folder, EMBEDDER, JUDGE, LABELLER)
    with serving("--models-file", str(models), "--key-file", str(keys), "--max-num-seqs", "1", model=None) as server:
        yield server


def _key(name: str) -> bytes:
    return f"key-of-{name}".encode()


@dataclass
class Calls:
    """Calls that are handed in one after the other, while nothing is begun."""

    server: Millpond
    threads: ThreadPoolExecutor
    waiting: dict[str, int] = field(default_factory=dict)
    handed_in: list[Future[httpx.Response]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def hand_in(
        self, name: str, path: str = "/v1/embeddings", caller: str = ONE, lane: str = "interactive", **own: object
    ) -> None:
        """Sends a call; its items wait in their lane when this returns."""
        headers = {"Authorization": f"Bearer {_key(caller).decode()}", "Millpond-Lane": lane}
        call = self.threads.submit(
            httpx.post, self.server.url + path, json={**BODIES[path], **own}, headers=headers, timeout=60
        )
        call.add_done_callback(lambda _: self.ended.append(name))
        self.handed_in.append(call)
        self.waiting[lane] = self.waiting.get(lane, 0) + ITEMS
        for each, items in self.waiting.items():
            waits(self.server, EMBEDDER, items, each)


@contextmanager
def ending_in_order(server: Millpond, *wanted: str) -> Iterator[Calls]:
    """The calls that are handed in inside end in this order of their names."""
    with ThreadPoolExecutor() as threads, held_still(server):
        calls = Calls(server, threads)
        yield calls
    for call in calls.handed_in:
        assert call.result().status_code == 200, call.result().text
    assert calls.ended == list(wanted)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed", "/pooling"])
def test_among_a_callers_own_calls_the_lower_priority_number_comes_first(server: Millpond, path: str) -> None:
    with ending_in_order(server, "urgent", "usual", "idle") as calls:
        calls.hand_in("idle", path, priority=5)
        calls.hand_in("usual", path)
        calls.hand_in("urgent", path, priority=-5)


def test_calls_of_one_priority_end_in_the_order_in_which_they_came(server: Millpond) -> None:
    with ending_in_order(server, "first", "second") as calls:
        calls.hand_in("first", priority=3)
        calls.hand_in("second", priority=3)


def test_no_priority_overtakes_another_callers_calls(server: Millpond) -> None:
    with ending_in_order(server, "of the other", "urgent") as calls:
        calls.hand_in("of the other", caller=OTHER, priority=5)
        calls.hand_in("urgent", priority=-(2**31))


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
def test_a_lane_is_served_before_those_below_it_whoever_came_first(server: Millpond, path: str) -> None:
    with ending_in_order(server, "interactive", "job", "bulk") as calls:
        calls.hand_in("bulk", path, lane="bulk", priority=-9)
        calls.hand_in("job", path, lane="job")
        calls.hand_in("interactive", path)


ONE_A_PATH = {way.path: way for way in reversed(WAYS) if way.model != RERANKER}


def test_every_route_hands_on_the_lane_the_caller_and_where_it_takes_one_the_priority(server: Millpond) -> None:
    assert {way.path for way in WAYS} == set(ONE_A_PATH)
    paths = create_app(Options(), []).openapi()["paths"]
    headers = {"Authorization": f"Bearer {_key(ONE).decode()}", "Millpond-Lane": "bulk"}
    with redis_of(server) as redis, ThreadPoolExecutor(len(ONE_A_PATH)) as threads, held_still(server):
        calls, seen = [], set[str]()
        for way in ONE_A_PATH.values():
            body = {"model": way.model, **way.long(9), "priority": 7}
            calls.append(threads.submit(httpx.post, server.url + way.path, json=body, headers=headers, timeout=60))
            found = eventually(partial(_items, redis, way.model, "bulk", frozenset(seen)))
            takes_priority = '"priority"' in json.dumps(paths[way.path]["post"]["requestBody"])
            assert {(item.tenant, item.priority) for item in found} == {(ONE, 7 if takes_priority else 0)}, way
            seen |= {item.request_id for item in found}
    for call in calls:
        assert call.result().status_code == 200, call.result().text


def _items(redis: Redis, model: str, lane: str, seen: Collection[str]) -> list[Item]:
    """What lies in a lane of requests that were not seen yet."""
    entries = redis.xrange(ModelKeys(model).lane(Lane(lane)))
    return [item for _, fields in entries if (item := Item.decode(fields[b"item"])).request_id not in seen]


def test_a_lane_that_is_not_there_is_refused_with_those_that_are(server: Millpond) -> None:
    headers = {"Authorization": f"Bearer {_key(ONE).decode()}", "Millpond-Lane": "express"}
    reply = httpx.post(f"{server.url}/v1/embeddings", json={"input": WORD}, headers=headers)
    assert reply.status_code == 400
    assert "Millpond-Lane is 'express'; it must be one of interactive, job, bulk." in reply.text


HELD_MS = 700.0

CLOCK_MS = 1.0
"""An item tells when it was made in whole milliseconds, rounded down."""

ROUNDED_MS = 0.02
"""What hundredths of milliseconds, each rounded, may have too much together."""


def stages_of(reply: httpx.Response) -> dict[str, float]:
    """The milliseconds of each stage, as Server-Timing gives them."""
    entries = [entry.split(";dur=") for entry in reply.headers["server-timing"].split(", ")]
    return {name: float(milliseconds) for name, milliseconds in entries}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
def test_a_reply_tells_how_long_it_took_and_where(server: Millpond, path: str) -> None:
    body = {name: [WORD, WORD] for name in BODIES[path]}
    headers = {"Authorization": f"Bearer {_key(ONE).decode()}"}
    with ThreadPoolExecutor() as threads:
        began = time.monotonic()
        with held_still(server):
            call = threads.submit(httpx.post, server.url + path, json=body, headers=headers, timeout=60)
            waits(server, EMBEDDER, 2)
            eventually(lambda: metric(server, "millpond_queue_age_seconds", model=EMBEDDER) > HELD_MS / 1000)
        reply = call.result()
        passed_ms = (time.monotonic() - began) * 1000
    check_times(reply, passed_ms)
    assert stages_of(reply)["queue"] >= HELD_MS
    began = time.monotonic()
    at_rest = httpx.post(server.url + path, json=body, headers=headers)
    check_times(at_rest, (time.monotonic() - began) * 1000)
    assert stages_of(at_rest)["queue"] < HELD_MS


def check_times(reply: httpx.Response, passed_ms: float) -> None:
    """The stages are within each other and within what the caller saw; both kinds of headers say the same."""
    assert reply.status_code == 200, reply.text
    stages = stages_of(reply)
    assert set(stages) == {"tokenize", "wait", "queue", "inference", "reply", "total"}
    assert stages["inference"] > 0
    assert stages["queue"] + stages["inference"] <= stages["wait"] + CLOCK_MS
    assert stages["tokenize"] + stages["wait"] + stages["reply"] <= stages["total"] + ROUNDED_MS
    assert stages["total"] <= passed_ms
    for header, stage in {"tokenization": "tokenize", "queue": "queue", "inference": "inference"}.items():
        assert abs(int(reply.headers[f"x-{header}-time"]) - stages[stage]) <= 0.51
    assert reply.headers["x-total-time"] == reply.headers["x-compute-time"]
    assert abs(int(reply.headers["x-total-time"]) - stages["total"]) <= 0.51
    assert int(reply.headers["x-compute-tokens"]) == 6
    assert int(reply.headers["x-compute-characters"]) == 2
    assert reply.headers["x-compute-type"] == "cpu"
