"""Files are kept once and within a budget; none goes that a request needs which is not over."""

import asyncio
import hashlib
from collections.abc import Mapping

import pytest
from redis import Redis

from scheduler import blobs
from scheduler.blobs import KEPT, fetched, keep, keep_blob, use_blobs
from scheduler.connection import connect_async
from scheduler.errors import BlobsFullError
from scheduler.keys import ModelKeys
from tests.scheduler.conftest import Bench

BUDGET = 1000


def file(number: int, size: int = 300) -> tuple[bytes, bytes]:
    """A digest and its bytes."""
    data = number.to_bytes(4, "little") * (size // 4)
    return hashlib.sha256(data).digest(), data


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request counts only once its hash is there."""
    monkeypatch.setattr(blobs, "GRACE_MS", 0)


def kept(bench: Bench, request_id: str, number: int, size: int = 300, budget: int = BUDGET) -> int:
    digest, data = file(number, size)
    return int(keep_blob(bench.keys, request_id, digest, data, budget).run_blocking(bench.redis))


def there(bench: Bench, *numbers: int) -> list[bool]:
    found = fetched(bench.redis, bench.keys, [file(number)[0] for number in numbers])
    return [each is not None for each in found]


def total(bench: Bench) -> int:
    return int(bench.redis.hget(bench.keys.blob_sizes, "total") or 0)


def ended(bench: Bench, request_id: str) -> None:
    bench.redis.delete(bench.keys.request(request_id))


def test_a_file_is_kept_once_however_often_it_is_kept(bench: Bench) -> None:
    assert [kept(bench, f"r{number}", 1) for number in range(5)] == [KEPT] * 5
    assert total(bench) == 300
    assert fetched(bench.redis, bench.keys, [file(1)[0], file(2)[0]]) == [file(1)[1], None]


def test_what_was_used_last_stays_longest(bench: Bench) -> None:
    for number in (1, 2, 3):
        assert kept(bench, "r", number) == KEPT
        bench.redis.zadd(bench.keys.blobs, {file(number)[0].hex(): number})
    use_blobs(bench.keys, "r", [file(1)[0]]).run_blocking(bench.redis)
    assert kept(bench, "r", 4) == KEPT
    assert there(bench, 1, 2, 3, 4) == [True, False, True, True]
    assert total(bench) == 900


def test_nothing_goes_that_a_living_request_needs_and_what_does_not_fit_is_refused(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.accept(f"r{number}")
        assert kept(bench, f"r{number}", number) == KEPT
    assert kept(bench, "r4", 4) == 900
    assert there(bench, 1, 2, 3, 4) == [True, True, True, False]
    ended(bench, "r2")
    assert kept(bench, "r4", 4) == KEPT
    assert there(bench, 1, 2, 3, 4) == [True, False, True, True]


def test_a_file_that_several_need_stays_until_the_last_is_over(bench: Bench) -> None:
    for request in ("a", "b"):
        bench.accept(request)
        assert kept(bench, request, 1, size=800) == KEPT
    ended(bench, "a")
    assert kept(bench, "c", 2) == 800
    ended(bench, "b")
    assert kept(bench, "c", 2) == KEPT


def test_a_request_that_is_on_its_way_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "GRACE_MS", 60_000)
    assert kept(bench, "on its way", 1, size=800) == KEPT
    assert kept(bench, "other", 2) == 800


def test_a_file_whose_time_has_run_out_is_counted_out(bench: Bench) -> None:
    assert kept(bench, "r", 1) == KEPT
    bench.redis.delete(bench.keys.blob(file(1)[0].hex()))
    assert kept(bench, "r", 2) == KEPT
    assert total(bench) == 300
    assert bench.redis.zcard(bench.keys.blobs) == 1


def test_a_file_larger_than_the_budget_is_refused(bench: Bench) -> None:
    assert kept(bench, "r", 1, size=1200) == 0
    assert total(bench) == 0


def test_two_models_do_not_share_files_or_budgets(bench: Bench, redis: Redis) -> None:
    other = Bench(redis, ModelKeys("another"))
    assert kept(bench, "r", 1, size=800) == kept(other, "r", 1, size=800) == KEPT
    assert total(bench) == total(other) == 800


def test_ten_thousand_files_pass_within_the_budget(bench: Bench) -> None:
    for number in range(10_000):
        assert kept(bench, "r", number, size=100, budget=10_000) == KEPT
        if number % 1000 == 0:
            assert total(bench) <= 10_000
    assert total(bench) <= 10_000
    names = [key for key in bench.redis.keys(f"{bench.keys.root}blob*")]
    assert len(names) <= 2 * 100 + 2


def test_users_that_are_gone_are_forgotten(bench: Bench) -> None:
    digest, _ = file(1)
    assert kept(bench, "first", 1) == KEPT
    for number in range(500):
        use_blobs(bench.keys, f"r{number}", [digest]).run_blocking(bench.redis)
    assert bench.redis.zcard(bench.keys.blob_users_prefix + digest.hex()) <= 110


def test_what_is_there_is_not_sent_again(bench: Bench, clean_redis_url: str) -> None:
    digest, data = file(1)

    async def run(files: Mapping[bytes, bytes], budget: int) -> None:
        redis = connect_async(clean_redis_url)
        try:
            await keep(redis, bench.keys, "r", files, budget, 10.0)
        finally:
            await redis.aclose()

    asyncio.run(run({digest: data}, BUDGET))
    # Other bytes under the same digest would show that they were sent.
    asyncio.run(run({digest: b"other"}, BUDGET))
    assert fetched(bench.redis, bench.keys, [digest]) == [data]
    bench.accept("r")
    with pytest.raises(BlobsFullError) as caught:
        asyncio.run(run(dict([file(2, 800)]), BUDGET))
    assert (caught.value.budget, caught.value.in_use, caught.value.size) == (BUDGET, 300, 800)


def test_an_ended_request_frees_its_files(bench: Bench) -> None:
    bench.accept("r")
    assert kept(bench, "r", 1, size=900) == KEPT
    assert kept(bench, "s", 2) == 900
    bench.redis.delete(bench.keys.request("r"))
    assert kept(bench, "s", 2) == KEPT
