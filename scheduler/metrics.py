"""What the queue measures about itself, for Prometheus."""

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError

from scheduler.blobs import kept_bytes
from scheduler.keys import JOB_COUNTERS, JOBS_RUNNING, LANES, MODELS, WEBHOOK_FAILURES, WEBHOOKS, ModelKeys
from scheduler.queue import Bounds

BATCH_TOKENS = Histogram(
    "millpond_batch_tokens",
    "Tokens in a micro-batch.",
    ["model"],
    buckets=[16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536],
)
BATCH_SEQUENCES = Histogram(
    "millpond_batch_sequences",
    "Sequences in a micro-batch.",
    ["model"],
    buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
)
STAGE_SECONDS = Histogram(
    "millpond_stage_seconds",
    "Seconds in each stage of a request's way: tokenize, images, queued, forward, commit, wait, reply.",
    ["model", "stage"],
    buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60],
)


OUTCOMES_HELP = (
    "Items and tokens by what became of them. Never forwarded were items_abandoned, whose caller left, and "
    "items_expired, whose deadline passed; items_unwanted were, and nobody waited for the result."
)


class QueueCollector(Collector):
    """Reads the lanes' depth and age, the workers and the counters out of Redis when Prometheus asks.

    Args:
        bounds: beyond which requests are refused, where that is known.
    """

    def __init__(self, redis: Redis, bounds: Bounds | None = None) -> None:
        self._redis = redis
        self._bounds = bounds

    def collect(self) -> Iterator[Metric]:
        """The queue's gauges and counters; `millpond_redis_up` 0 alone while Redis is away."""
        depth = GaugeMetricFamily("millpond_queue_depth", "Items in a lane.", labels=["model", "lane"])
        age = GaugeMetricFamily(
            "millpond_queue_age_seconds", "Age of the oldest item in a lane.", labels=["model", "lane"]
        )
        queued = GaugeMetricFamily(
            "millpond_queued_tokens", "Tokens in a lane that have not ended.", labels=["model", "lane"]
        )
        bound = GaugeMetricFamily(
            "millpond_max_queued_tokens", "Most tokens that may be queued in a lane.", labels=["model", "lane"]
        )
        workers = GaugeMetricFamily("millpond_workers", "Workers with a fresh heartbeat.", labels=["model"])
        leases = GaugeMetricFamily("millpond_leases", "Micro-batches sent or running.", labels=["model"])
        letters = GaugeMetricFamily("millpond_dead_letters", "Items given up on and kept.", labels=["model"])
        counters = CounterMetricFamily("millpond_queue", OUTCOMES_HELP, labels=["model", "outcome"])
        images = GaugeMetricFamily("millpond_media_cache_bytes", "Bytes of images kept in Redis.", labels=["model"])
        evictions = CounterMetricFamily(
            "millpond_media_cache_evictions", "Images that went from Redis for want of room.", labels=["model"]
        )
        webhooks = GaugeMetricFamily("millpond_webhooks_waiting", "Webhooks that are not delivered and not given up.")
        failing = GaugeMetricFamily(
            "millpond_webhook_receivers_failing", "Receivers of waiting webhooks that were not reached lately."
        )
        jobs = GaugeMetricFamily("millpond_jobs", "Jobs that have not ended.", labels=["status"])
        job_ends = CounterMetricFamily("millpond_jobs_ended", "Jobs by how they ended.", labels=["status"])
        up = GaugeMetricFamily("millpond_redis_up", "1 while Redis answers.")
        try:
            for model in sorted(member.decode() for member in self._redis.smembers(MODELS)):
                keys = ModelKeys(model)
                tokens = self._redis.hmget(keys.queued, range(len(LANES)))
                for lane, queued_in_lane in zip(LANES, tokens, strict=True):
                    queued.add_metric([model, lane], int(queued_in_lane or 0))
                    if self._bounds:
                        bound.add_metric([model, lane], self._bounds.lane)
                    stream = keys.lane(lane)
                    depth.add_metric([model, lane], self._redis.xlen(stream))
                    age.add_metric([model, lane], _age(self._redis.xrange(stream, count=1)))
                members = self._redis.smembers(keys.workers)
                alive = sum(self._redis.exists(keys.worker(member.decode())) for member in members)
                workers.add_metric([model], alive)
                leases.add_metric([model], self._redis.zcard(keys.leases))
                letters.add_metric([model], self._redis.xlen(keys.dead_letters))
                for name, count in self._redis.hgetall(keys.counters).items():
                    counters.add_metric([model, name.decode()], int(count))
                image_bytes, evicted = kept_bytes(self._redis, keys)
                images.add_metric([model], image_bytes)
                evictions.add_metric([model], evicted)
            self._count_jobs(jobs, job_ends)
            webhooks.add_metric([], self._redis.zcard(WEBHOOKS))
            failing.add_metric([], self._redis.hlen(WEBHOOK_FAILURES))
        except (RedisError, OSError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield from (
            up,
            depth,
            age,
            queued,
            bound,
            workers,
            leases,
            letters,
            counters,
            images,
            evictions,
            webhooks,
            failing,
            jobs,
            job_ends,
        )

    def _count_jobs(self, jobs: GaugeMetricFamily, ends: CounterMetricFamily) -> None:
        counted = {name.decode(): int(count) for name, count in self._redis.hgetall(JOB_COUNTERS).items()}
        submitted, running = counted.pop("submitted", 0), self._redis.zcard(JOBS_RUNNING)
        for status, count in counted.items():
            ends.add_metric([status], count)
        jobs.add_metric(["running"], running)
        # Between the two questions some may have ended.
        jobs.add_metric(["queued"], max(0, submitted - sum(counted.values()) - running))


def _age(first: list[Any]) -> float:
    """Seconds since the oldest entry of a stream came, by the time in its id."""
    if not first:
        return 0.0
    return max(0.0, time.time() - int(first[0][0].split(b"-")[0]) / 1000)
