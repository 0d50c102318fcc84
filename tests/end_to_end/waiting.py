"""Work that waits: workers held still, and what became of it, read from the metrics port as Prometheus reads it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import eventually
from tests.server import Millpond


@contextmanager
def held_still(server: Millpond) -> Iterator[None]:
    """Nothing that is handed in is begun: all workers are stopped, and go on at the end."""
    workers = server.role_processes("workers")
    for each in workers:
        each.suspend()
    try:
        yield
    finally:
        for each in workers:
            each.resume()


def metric(server: Millpond, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def waits(server: Millpond, model: str, items: int, lane: str = "interactive") -> None:
    """Returns when so many items are in the lane."""
    eventually(lambda: metric(server, "millpond_queue_depth", model=model, lane=lane) == items)


_OUTCOMES = ("answered", "abandoned", "expired", "unwanted", "given_up", "repeated")


def outcomes(server: Millpond, model: str) -> dict[str, int]:
    """How many of a model's items have ended so; and as `begun`, how many a worker has taken up."""
    found = {
        outcome: int(metric(server, "millpond_queue_total", model=model, outcome=f"items_{outcome}"))
        for outcome in _OUTCOMES
    }
    begun = metric(server, "millpond_stage_seconds_count", model=model, stage="queued")
    return {**found, "begun": int(begun)}


@contextmanager
def ending_as(server: Millpond, model: str, **wanted: int) -> Iterator[None]:
    """What is handed in inside leaves its lanes, and so many items ended so; none otherwise."""
    before = outcomes(server, model)
    yield
    eventually(lambda: not metric(server, "millpond_queue_depth", model=model))
    # A worker counts what it has begun before its results are there, so there is nothing to wait for.
    after = outcomes(server, model)
    changed = {outcome: after[outcome] - before[outcome] for outcome in after if after[outcome] != before[outcome]}
    assert changed == wanted, changed


@contextmanager
def taking(least: float, most: float) -> Iterator[None]:
    """What is done inside takes so many seconds."""
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began <= most, f"{time.monotonic() - began:.2f} s"
