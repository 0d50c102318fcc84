"""A Redis that cannot keep the promises is refused in one sentence."""

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from scheduler.connection import check_server, connect, is_passing
from scheduler.errors import QueueUnavailableError, UnsupportedServerError


def test_a_good_server_passes(redis_url: str) -> None:
    check_server(connect(redis_url))


def test_both_ways_to_write_a_socket_are_understood(redis_url: str) -> None:
    kombus = redis_url.replace("unix://", "redis+socket://").replace("db=", "virtual_host=")
    assert connect(kombus).ping()


def test_a_server_that_evicts_is_refused(redis_url: str) -> None:
    with Redis.from_url(redis_url) as admin:
        admin.config_set("maxmemory", "100mb")
        admin.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(UnsupportedServerError, match="set maxmemory-policy to noeviction"):
                check_server(connect(redis_url))
        finally:
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("maxmemory", "0")


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailableError, match=r"Redis cannot be reached.*--redis-url"):
        check_server(connect(f"unix://{tmp_path}/none.sock"))


def test_a_step_that_finds_no_memory_may_find_some_later(clean_redis_url: str) -> None:
    with connect(clean_redis_url) as redis:
        redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(ResponseError, match="OOM") as caught:
                redis.eval("return redis.call('SET', KEYS[1], 'b')", 1, "a")
        finally:
            redis.config_set("maxmemory", 0)
    assert is_passing(caught.value)
