"""The leading scheduler is killed again and again under load, while another stands by.

`MILLPOND_SOAK_KILLS` (20) kills; `-s` shows the pauses.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import psutil
import pytest

from scheduler.keys import ModelKeys
from tests.conftest import eventually
from tests.end_to_end.load import TEXTS, is_right, right_vectors
from tests.server import TINY_BERT, Millpond, client_of, redis_of, serving

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("MILLPOND_SOAK_KILLS", "20"))
LONGEST_PAUSE = 3.0
CALLERS = 8


@contextmanager
def standing_by(server: Millpond) -> Iterator[psutil.Process]:
    """One more scheduler beside the server's own; it is started again when it is killed."""
    (own,) = eventually(lambda: server.role_processes("scheduler"))
    command = [sys.executable, "-m", "scheduler"]
    environment = {name: value for name, value in own.environ().items() if name != "MILLPOND_READY_FD"}
    over = threading.Event()
    running = [subprocess.Popen(command, env=environment)]

    def keep() -> None:
        while not over.wait(0.05):
            if running[-1].poll() is not None:
                running.append(subprocess.Popen(command, env=environment))

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield psutil.Process(running[0].pid)
    finally:
        over.set()
        keeper.join()
        running[-1].terminate()
        running[-1].wait(10)


def leader_of(server: Millpond) -> psutil.Process:
    """The scheduler that works: the other only asks, five times a second, whether it may."""

    def busiest() -> psutil.Process | None:
        schedulers = [each for each in psutil.process_iter() if _is_scheduler(each, server)]
        before = {each: sum(each.cpu_times()[:2]) for each in schedulers}
        time.sleep(0.5)
        spent = {each: sum(each.cpu_times()[:2]) - seconds for each, seconds in before.items()}
        found = max(spent, key=lambda each: spent[each], default=None)
        return found if found and len(spent) == 2 and spent[found] > 2 * min(spent.values()) + 0.02 else None

    return eventually(busiest, 30)


def _is_scheduler(process: psutil.Process, server: Millpond) -> bool:
    try:
        return process.cmdline()[-2:] == ["-m", "scheduler"] and str(server.data_directory) in str(process.environ())
    except psutil.Error:
        return False


def test_no_item_is_lost_or_doubled_and_no_pause_is_long() -> None:
    with serving(model=TINY_BERT) as server, standing_by(server):
        right, keys = right_vectors(server), ModelKeys("tiny-bert")
        over, answered_at, wrong = threading.Event(), list[float](), list[object]()
        before = int(redis_of(server).hget(keys.counters, "items_answered"))

        def caller(number: int) -> None:
            with client_of(server) as client:
                while not over.is_set():
                    texts = [TEXTS[(len(answered_at) + number) % len(TEXTS)]]
                    reply = client.post("/v1/embeddings", json={"input": texts})
                    answered_at.append(time.monotonic())
                    if not is_right(reply, texts, right):
                        wrong.append(reply)

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        pauses = []
        for _ in range(KILLS):
            leader = leader_of(server)
            killed = time.monotonic()
            leader.kill()
            eventually(lambda since=killed: answered_at[-1] > since + 0.1, 30)  # type: ignore[misc]
            # Until calls are answered again: what the worker held is answered without a leader.
            time.sleep(LONGEST_PAUSE)
            times = [each for each in answered_at if each > killed - 1] + [time.monotonic()]
            pauses.append(max(later - sooner for sooner, later in pairwise(times)))
        over.set()
        for thread in threads:
            thread.join(30)
        assert not wrong, wrong[0]
        answered = int(redis_of(server).hget(keys.counters, "items_answered")) - before
        print(f"\n{KILLS} kills, {len(answered_at)} calls; pauses {sorted(round(each, 2) for each in pauses)}")
        assert answered == len(answered_at), "each item was counted once"
        assert max(pauses) < LONGEST_PAUSE
