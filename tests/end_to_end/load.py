"""Callers in parallel, and a record of what each of them got."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from scheduler.keys import ModelKeys
from tests.conftest import eventually
from tests.server import Millpond, client_of, redis_of

TEXTS = [" ".join(["water", "stone", "mill", "wheel", "a"][: n % 5 + 1] * (n % 4 + 1)) for n in range(20)]


@dataclass
class Load:
    """`count` requests of one or three texts from 16 threads, started at once."""

    server: Millpond
    count: int = 200
    replies: dict[int, httpx.Response | httpx.HTTPError] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def texts(self, number: int) -> list[str]:
        """What request `number` sends."""
        return [TEXTS[(number + offset) % len(TEXTS)] for offset in range(1 if number % 2 else 3)]

    def start(self) -> "Load":
        """Begins to send."""
        numbers = iter(range(self.count))
        lock = threading.Lock()

        def caller() -> None:
            with client_of(self.server) as client:
                while True:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    began = time.monotonic()
                    try:
                        self.replies[number] = client.post("/v1/embeddings", json={"input": self.texts(number)})
                    except httpx.HTTPError as error:
                        self.replies[number] = error
                    self.seconds[number] = time.monotonic() - began

        self._threads = [threading.Thread(target=caller) for _ in range(16)]
        for thread in self._threads:
            thread.start()
        return self

    def wait_until_done(self, share: float) -> None:
        """Returns when so much of the load is answered: then it is in full swing."""
        eventually(lambda: len(self.replies) >= share * self.count)

    def finish(self, seconds: float = 120.0) -> None:
        """Waits until every request has ended."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{len(self.replies)} of {self.count} answered\n{self.server.output}"


def right_vectors(server: Millpond) -> dict[str, np.ndarray]:
    """Each text's vector, asked for while nothing disturbs."""
    with client_of(server) as client:
        data = client.post("/v1/embeddings", json={"input": TEXTS}).json()["data"]
    return {text: np.asarray(each["embedding"]) for text, each in zip(TEXTS, data, strict=True)}


def is_right(reply: httpx.Response | httpx.HTTPError, texts: list[str], right: dict[str, np.ndarray]) -> bool:
    """Whether a reply holds exactly the vectors of its texts, in their order."""
    if isinstance(reply, httpx.HTTPError) or reply.status_code != 200:
        return False
    data = reply.json()["data"]
    return [each["index"] for each in data] == list(range(len(texts))) and all(
        np.asarray(each["embedding"]) == pytest.approx(right[text], abs=1e-5)
        for text, each in zip(texts, data, strict=True)
    )


def answered_items(server: Millpond) -> int:
    """How many items were counted as answered, as far as Redis knows."""
    keys = ModelKeys("tiny-bert")
    with redis_of(server) as redis:
        return int(redis.hget(keys.counters, "items_answered") or 0)


def run_with_kill(server: Millpond, kill: Callable[[], None]) -> Load:
    """A load in whose middle something is killed; its items must be counted once each."""
    before = answered_items(server)
    load = Load(server).start()
    load.wait_until_done(0.15)
    kill()
    load.finish()
    keys = ModelKeys("tiny-bert")
    with redis_of(server) as redis:
        eventually(lambda: not redis.xlen(keys.lanes[0]), 40)
        assert not redis.zcard(keys.leases), "every lease has ended"
        assert not redis.exists(keys.claims), "no item is held"
        assert not redis.exists(keys.held), "every slot is free"
    sent = sum(len(load.texts(number)) for number in range(load.count))
    answered = answered_items(server) - before
    right = right_vectors(server)
    for number, reply in load.replies.items():
        assert is_right(reply, load.texts(number), right) or isinstance(reply, httpx.HTTPError), reply
    if not any(isinstance(reply, httpx.HTTPError) for reply in load.replies.values()):
        assert answered == sent, f"{answered} items were counted, {sent} were sent"
    return load
