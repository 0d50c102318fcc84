"""Files lie in Redis once and within a budget; what a request needs that is not over stays."""

import asyncio
import hashlib
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis
from redis.exceptions import ResponseError

from scheduler import blobs
from scheduler.blobs import GRACE_MS, OVERHEAD, fetched, free_blobs, keep, keep_blobs, kept_bytes, let_go, use_blobs
from scheduler.connection import connect_async
from scheduler.errors import BlobsFullError, QueueUnavailableError
from scheduler.keys import MODELS, ModelKeys
from scheduler.lua import Step
from scheduler.metrics import QueueCollector
from tests.conftest import eventually
from tests.scheduler.conftest import Bench

TTL_MS = 600_000


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def file(number: int, size: int = 1_000) -> bytes:
    """A file like no other."""
    return b"%08d" % number + bytes(size - 8)


def room_for(count: int, size: int = 1_000) -> int:
    """A budget in which so many files have room."""
    return count * (size + OVERHEAD)


@dataclass
class Shelf:
    """The files of one model, with short words for what is done with them."""

    bench: Bench
    url: str
    keys: ModelKeys
    budget: int = room_for(3)

    @property
    def redis(self) -> Redis:
        return self.bench.redis

    def keep(self, request_id: str, *datas: bytes, ttl_ms: int = TTL_MS) -> None:
        """Keeps files as the api does."""

        async def run() -> None:
            async with connect_async(self.url) as redis:
                files = {digest_of(data): data for data in datas}
                await keep(redis, self.keys, request_id, files, self.budget, ttl_ms)

        asyncio.run(run())

    def let_go(self, request_id: str, *datas: bytes) -> None:
        async def run() -> None:
            async with connect_async(self.url) as redis:
                await let_go(redis, self.keys, request_id, [digest_of(data) for data in datas])

        asyncio.run(run())

    def keep_for_nobody(self, *datas: bytes) -> None:
        """Files of a request that is over."""
        self.keep("over", *datas)
        self.let_go("over", *datas)

    def end_grace(self, *datas: bytes) -> None:
        """Lets the time pass for which requests count that are not handed in."""
        for data in datas:
            users = self.keys.blob_users(digest_of(data).hex())
            self.redis.zadd(users, dict.fromkeys(self.redis.zrange(users, 0, -1), 1))

    def there(self, *datas: bytes) -> list[bool]:
        found = fetched(self.redis, self.keys, [digest_of(data) for data in datas])
        assert all(each is None or each == data for each, data in zip(found, datas, strict=True))
        return [each is not None for each in found]

    def users(self, data: bytes) -> set[bytes]:
        return set(self.redis.zrange(self.keys.blob_users(digest_of(data).hex()), 0, -1))

    def received(self) -> int:
        """Bytes that Redis was sent so far."""
        return int(self.redis.info("stats")["total_net_input_bytes"])

    def assert_consistent(self) -> None:
        """What is written down of the files is what lies there."""
        sizes = self.redis.hgetall(self.keys.blob_sizes)
        total, _ = int(sizes.pop(b"total", 0)), sizes.pop(b"evicted", 0)
        assert sum(int(size) for size in sizes.values()) == total
        lying = {key.rpartition(b":")[2]: self.redis.strlen(key) for key in self.redis.keys(self.keys.blob("*"))}
        assert {name: int(size) for name, size in sizes.items()} == lying
        assert set(self.redis.zrange(self.keys.blobs, 0, -1)) == set(self.redis.zrange(self.keys.blob_ends, 0, -1))
        assert set(self.redis.zrange(self.keys.blobs, 0, -1)) == set(lying)


@pytest.fixture
def shelf(bench: Bench, clean_redis_url: str) -> Shelf:
    return Shelf(bench, clean_redis_url, bench.keys)


A, B, C, D, E, F = (file(number) for number in range(6))


def test_files_come_back_as_they_were_and_what_was_never_kept_does_not(shelf: Shelf) -> None:
    shelf.keep("r", A, B)
    assert shelf.there(A, B, C) == [True, True, False]
    assert fetched(shelf.redis, shelf.keys, [digest_of(B), digest_of(C), digest_of(A)]) == [B, None, A]
    shelf.assert_consistent()


def test_a_request_without_files_asks_redis_nothing(shelf: Shelf) -> None:
    shelf.keep("r")
    assert not shelf.redis.exists(shelf.keys.blobs, shelf.keys.blob_sizes)


def test_a_file_is_stored_once_and_its_second_use_costs_no_bytes_on_the_way(shelf: Shelf) -> None:
    shelf.budget, large = 10_000_000, file(1, 5_000_000)
    shelf.keep("first", large)
    before = shelf.received()
    shelf.keep("second", large)
    assert shelf.received() - before < 10_000
    assert shelf.users(large) == {b"first", b"second"}
    assert kept_bytes(shelf.redis, shelf.keys) == (5_000_000, 0)
    shelf.assert_consistent()


def test_two_that_keep_the_same_file_at_once_count_it_once(shelf: Shelf) -> None:
    for request_id in ("first", "second"):
        reply = keep_blobs(shelf.keys, request_id, {digest_of(A): A}, shelf.budget, TTL_MS).run_blocking(shelf.redis)
        assert reply[:2] == [b"room", 1_000]
    assert shelf.users(A) == {b"first", b"second"}
    shelf.assert_consistent()


def test_those_go_first_that_were_not_used_for_the_longest_time(shelf: Shelf) -> None:
    shelf.keep_for_nobody(A)
    shelf.keep_for_nobody(B)
    shelf.keep_for_nobody(C)
    shelf.keep_for_nobody(A)
    shelf.keep_for_nobody(D)
    assert shelf.there(A, B, C, D) == [True, False, True, True]
    shelf.keep_for_nobody(E)
    assert shelf.there(A, B, C, D, E) == [True, False, False, True, True]
    assert kept_bytes(shelf.redis, shelf.keys) == (3_000, 2)
    shelf.assert_consistent()


def test_the_order_of_use_holds_though_the_clock_was_set_back(shelf: Shelf) -> None:
    for data in (A, B, C):
        shelf.keep_for_nobody(data)
        scores = shelf.redis.zrange(shelf.keys.blobs, 0, -1, withscores=True)
        shelf.redis.zadd(shelf.keys.blobs, {name: score + 3_600_000 for name, score in scores})
    shelf.keep_for_nobody(D)
    shelf.keep_for_nobody(E)
    assert shelf.there(A, B, C, D, E) == [False, False, True, True, True]


def test_no_more_goes_than_has_to(shelf: Shelf) -> None:
    shelf.keep_for_nobody(file(10, 2_000))
    shelf.keep_for_nobody(A)
    shelf.keep_for_nobody(B)
    assert shelf.there(file(10, 2_000), A, B) == [False, True, True], "it had two thirds of the room"
    shelf.keep_for_nobody(C)
    assert shelf.there(A, B, C) == [True, True, True]


def test_what_a_living_request_needs_stays_and_others_go_in_its_place(shelf: Shelf) -> None:
    shelf.keep("living", A)
    shelf.bench.accept("living")
    shelf.keep_for_nobody(B)
    shelf.keep_for_nobody(C)
    shelf.end_grace(A)
    shelf.keep_for_nobody(D)
    assert shelf.there(A, B, C, D) == [True, False, True, True]


def test_what_a_request_needs_stays_until_it_can_have_been_handed_in(shelf: Shelf) -> None:
    shelf.keep("on its way", A, B, C)
    with pytest.raises(BlobsFullError):
        shelf.keep("another", D)
    shelf.end_grace(A, B, C)
    shelf.keep("another", D)
    assert sum(shelf.there(A, B, C)) == 2, "it never was handed in"


def test_the_time_to_hand_a_request_in_is_longer_than_that_may_take(shelf: Shelf) -> None:
    shelf.keep("r", A)
    score = shelf.redis.zscore(shelf.keys.blob_users(digest_of(A).hex()), "r")
    seconds, _ = shelf.redis.time()
    assert abs(score - seconds * 1000 - GRACE_MS) < 5_000
    assert GRACE_MS == 60_000


def test_a_request_that_is_over_frees_its_files(shelf: Shelf) -> None:
    shelf.keep("r", A, B, C)
    shelf.bench.accept("r")
    shelf.end_grace(A, B, C)
    with pytest.raises(BlobsFullError):
        shelf.keep("another", D)
    shelf.redis.delete(shelf.keys.request("r"))
    shelf.keep("another", D)
    assert shelf.there(D) == [True]
    assert sum(shelf.there(A, B, C)) == 2
    shelf.assert_consistent()


def test_a_file_that_is_let_go_is_free_at_once_but_for_others_that_need_it(shelf: Shelf) -> None:
    shelf.keep("first", A, B)
    shelf.keep("second", B, C)
    shelf.let_go("first", A, B)
    assert shelf.there(A, B, C) == [True, True, True], "it lies there for the next"
    shelf.keep("third", D)
    assert shelf.there(A, B, C, D) == [False, True, True, True]
    with pytest.raises(BlobsFullError):
        shelf.keep("fourth", E)


def test_it_is_refused_when_all_is_in_use_and_nothing_of_it_is_stored(shelf: Shelf) -> None:
    shelf.keep("living", A, B, C)
    with pytest.raises(BlobsFullError, match="--media-cache-mb") as refused:
        shelf.keep("another", D)
    assert (refused.value.budget, refused.value.in_use, refused.value.size) == (shelf.budget, 3_000, 1_000)
    for said in (str(shelf.budget), "3000"):
        assert said in str(refused.value)
    assert shelf.there(A, B, C, D) == [True, True, True, False]
    shelf.assert_consistent()
    shelf.keep("another", A, C)
    assert shelf.users(A) == {b"living", b"another"}, "what is there can be used still"


def test_what_is_larger_than_the_budget_alone_is_refused(shelf: Shelf) -> None:
    with pytest.raises(BlobsFullError):
        shelf.keep("r", file(1, 10_000))
    shelf.budget = 0
    with pytest.raises(BlobsFullError):
        shelf.keep("r", A)
    shelf.assert_consistent()


def test_files_that_are_there_are_used_though_the_budget_was_lowered(shelf: Shelf) -> None:
    shelf.keep("r", A, B, C)
    shelf.budget = 0
    shelf.keep("another", A, B)
    reply = keep_blobs(shelf.keys, "third", {digest_of(A): A}, 0, TTL_MS).run_blocking(shelf.redis)
    assert reply[0] == b"room"


def test_many_that_are_in_use_do_not_hide_one_that_is_not(shelf: Shelf) -> None:
    living = [file(number) for number in range(700)]
    shelf.budget = room_for(701)
    shelf.keep("living", *living)
    free, new = file(999), file(1_000)
    shelf.keep_for_nobody(free)
    shelf.keep("another", new)
    assert shelf.there(free, new, *living) == [False, True, *[True] * 700]
    with pytest.raises(BlobsFullError):
        shelf.keep("third", file(1_001))
    shelf.assert_consistent()


def test_no_step_looks_at_more_than_some_files(shelf: Shelf) -> None:
    shelf.budget = room_for(700)
    shelf.keep("living", *(file(number) for number in range(700)))
    new = file(1_000)
    keeping = keep_blobs(shelf.keys, "r", {digest_of(new): new}, shelf.budget, TTL_MS)
    state, total, count, size, moment = keeping.run_blocking(shelf.redis)
    assert (state, total, count, size) == (b"more", 700_000, 1, 1_000)
    states = [free_blobs(shelf.keys, count, size, shelf.budget, moment).run_blocking(shelf.redis)[0] for _ in range(2)]
    assert states == [b"more", b"full"]


def test_one_large_file_takes_the_place_of_a_thousand_small_ones(shelf: Shelf) -> None:
    small = [file(number) for number in range(1_000)]
    shelf.budget = room_for(1_000)
    shelf.keep_for_nobody(*small)
    shelf.keep("r", large := file(1_001, 1_900_000))
    assert shelf.there(large) == [True]
    assert sum(shelf.there(*small)) < 70
    shelf.assert_consistent()


def test_the_files_of_a_request_go_in_pieces_however_large_they_are(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def noting(keys: ModelKeys, request_id: str, files: dict[bytes, bytes], budget: int, ttl_ms: int) -> Step:
        sent.append(sum(map(len, files.values())))
        return keep_blobs(keys, request_id, files, budget, ttl_ms)

    monkeypatch.setattr(blobs, "PIECE_BYTES", 5_000)
    monkeypatch.setattr(blobs, "keep_blobs", noting)
    shelf.budget = 1_000_000
    files = [file(number, 2_000) for number in range(7)] + [file(8, 9_000), file(9, 100)]
    shelf.keep("r", *files)
    assert sent == [4_000, 4_000, 4_000, 2_000, 9_000, 100]
    assert all(shelf.there(*files))
    shelf.assert_consistent()


def test_ten_thousand_small_files_pass_within_the_budget(shelf: Shelf) -> None:
    shelf.budget = 2_000_000
    used = int(shelf.redis.info("memory")["used_memory"])

    async def run() -> int:
        highest = 0
        async with connect_async(shelf.url) as redis:
            for number in range(10_000):
                data, request_id = file(number, 500 + number % 1_000), f"request-{number}"
                await keep(redis, shelf.keys, request_id, {digest_of(data): data}, shelf.budget, TTL_MS)
                await let_go(redis, shelf.keys, request_id, [digest_of(data)])
                if number % 500 == 499:
                    highest = max(highest, int((await redis.info("memory"))["used_memory"]))
                    assert kept_bytes(shelf.redis, shelf.keys)[0] <= shelf.budget
        return highest

    highest = asyncio.run(run())
    # The append-only file's buffer and the clients' come on top.
    assert highest - used < shelf.budget + 1_000_000
    kept, evicted = kept_bytes(shelf.redis, shelf.keys)
    count = shelf.redis.zcard(shelf.keys.blobs)
    assert evicted == 10_000 - count
    assert shelf.budget - 5_000 < kept + count * OVERHEAD <= shelf.budget
    shelf.assert_consistent()


def test_what_redis_needs_for_a_small_file_is_no_more_than_it_counts_as(shelf: Shelf) -> None:
    shelf.budget = room_for(2_000)
    used = int(shelf.redis.info("memory")["used_memory_dataset"])
    shelf.keep("a request with a rather long identifier", *(file(number, 100) for number in range(1_000)))
    shelf.keep("another request with such an identifier", *(file(number, 100) for number in range(1_000)))
    assert int(shelf.redis.info("memory")["used_memory_dataset"]) - used < 1_000 * (100 + OVERHEAD)


def test_files_whose_time_is_over_are_counted_out(shelf: Shelf) -> None:
    shelf.keep("living", A, B, ttl_ms=1)
    shelf.keep("living", C)
    shelf.bench.accept("living")
    eventually(lambda: not any(shelf.there(A, B)))
    assert kept_bytes(shelf.redis, shelf.keys) == (1_000, 0)
    shelf.keep("another", D, E)
    assert shelf.there(C, D, E) == [True] * 3
    assert kept_bytes(shelf.redis, shelf.keys) == (3_000, 0), "none had to go"
    shelf.assert_consistent()


def test_more_files_than_a_step_looks_at_are_counted_out_when_their_time_is_over(shelf: Shelf) -> None:
    over = [file(number) for number in range(700)]
    shelf.budget = room_for(700)
    shelf.keep("living", *over, ttl_ms=300)
    shelf.bench.accept("living")
    eventually(lambda: not any(shelf.there(*over)))
    assert kept_bytes(shelf.redis, shelf.keys) == (0, 0)
    shelf.keep("another", file(1_000, 500_000))
    assert kept_bytes(shelf.redis, shelf.keys) == (500_000, 0)
    shelf.keep("another", A)
    shelf.keep("another", B)
    assert kept_bytes(shelf.redis, shelf.keys) == (502_000, 0)
    shelf.assert_consistent()


def test_a_file_whose_time_is_over_can_be_kept_again(shelf: Shelf) -> None:
    shelf.keep("r", A, ttl_ms=1)
    eventually(lambda: not any(shelf.there(A)))
    shelf.keep("s", A)
    assert shelf.there(A) == [True]
    assert shelf.users(A) == {b"s"}
    shelf.assert_consistent()


def test_a_use_makes_the_time_of_a_file_longer_and_never_shorter(shelf: Shelf) -> None:
    blob = shelf.keys.blob(digest_of(A).hex())
    shelf.keep("r", A, ttl_ms=100_000)
    shelf.keep("s", A, ttl_ms=900_000)
    assert 890_000 < shelf.redis.pttl(blob) <= 900_000
    shelf.keep("t", A, ttl_ms=100)
    assert 890_000 < shelf.redis.pttl(blob) <= 900_000
    assert 890_000 < shelf.redis.pttl(shelf.keys.blob_users(digest_of(A).hex())) <= 900_000


def test_the_users_of_a_file_that_everybody_uses_do_not_pile_up(shelf: Shelf) -> None:
    for request_id in ("living", "also living"):
        shelf.bench.accept(request_id)
        use_blobs(shelf.keys, request_id, [digest_of(A)], TTL_MS).run_blocking(shelf.redis)
    shelf.keep("living", A)
    shelf.keep("also living", A)
    for number in range(500):
        use_blobs(shelf.keys, f"over-{number}", [digest_of(A)], TTL_MS, grace_ms=0).run_blocking(shelf.redis)
    shelf.end_grace(A)
    for number in range(40):
        use_blobs(shelf.keys, f"over too-{number}", [digest_of(A)], TTL_MS, grace_ms=0).run_blocking(shelf.redis)
    assert {b"living", b"also living"} < shelf.users(A)
    assert len(shelf.users(A)) < 50


def test_two_models_have_files_and_budgets_of_their_own(shelf: Shelf) -> None:
    other = Shelf(shelf.bench, shelf.url, ModelKeys("another model"), room_for(1))
    shelf.keep("r", A, B, C)
    other.keep("r", A)
    with pytest.raises(BlobsFullError):
        other.keep("s", B)
    other.let_go("r", A)
    other.keep("s", B)
    assert other.there(A, B) == [False, True]
    assert shelf.there(A, B, C) == [True] * 3
    assert (kept_bytes(shelf.redis, shelf.keys), kept_bytes(shelf.redis, other.keys)) == ((3_000, 0), (1_000, 1))
    for each in (shelf, other):
        each.assert_consistent()


def test_a_redis_that_is_full_takes_nothing_and_forgets_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "KEEP_SECONDS", 0.2)
    shelf.keep_for_nobody(A, B, C)
    shelf.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ResponseError, match="OOM"):
            keep_blobs(shelf.keys, "r", {digest_of(D): D}, shelf.budget, TTL_MS).run_blocking(shelf.redis)
        with pytest.raises(QueueUnavailableError, match="keep the files"):
            shelf.keep("r", D)
    finally:
        shelf.redis.config_set("maxmemory", 0)
    assert shelf.there(A, B, C, D) == [True, True, True, False]
    shelf.assert_consistent()
    shelf.keep("r", D)


def test_letting_go_while_redis_is_away_raises_nothing(shelf: Shelf) -> None:
    Shelf(shelf.bench, "unix:///nowhere/redis.sock?db=0", shelf.keys).let_go("r", A)


def test_the_metrics_tell_what_is_kept_and_what_went(shelf: Shelf) -> None:
    shelf.redis.sadd(MODELS, shelf.keys.model)
    for data in (A, B, C, D):
        shelf.keep_for_nobody(data)
    registry = CollectorRegistry()
    registry.register(QueueCollector(shelf.redis))

    def metric(name: str) -> float | None:
        return registry.get_sample_value(name, {"model": shelf.keys.model})

    assert metric("millpond_media_cache_bytes") == 3_000
    assert metric("millpond_media_cache_evictions_total") == 1
