"""What nobody will ask for any more is removed, and nothing else."""

import asyncio
import time
from pathlib import Path

import pytest

from api.batches.places import index_name
from api.files.storage import Storage, content_name
from api.files.sweeping import sweep
from scheduler.connection import connect, connect_async
from scheduler.files import StoredFile, add_file
from scheduler.keys import EXPIRING_FILES, file_key, file_readers, files_of


def test_a_sweep_removes_what_is_due_with_its_content(clean_redis_url: str, tmp_path: Path) -> None:
    storage, now = Storage(str(tmp_path)), int(time.time())
    with connect(clean_redis_url) as redis:
        for file_id, expires in (("file-old", now - 1), ("file-read", now - 1), ("file-new", now + 60)):
            add_file(StoredFile(file_id, "ann", "f", 1, "batch", 1, expires), 1).run_blocking(redis)
            storage.put(content_name(file_id), b"x")
        redis.sadd(file_readers("file-read"), "batch_a")
        storage.put(index_name("batch_dead"), b"x")
        redis.zadd(EXPIRING_FILES, {"batch_dead": now - 1, "file-half": now - 1})
        half = tmp_path / "content" / "file-half.1.abcd.tmp"
        half.write_bytes(b"x")
        swept(clean_redis_url, storage)
        assert sorted(path.name for path in (tmp_path / "content").iterdir()) == ["file-new", "file-read"]
        assert not (tmp_path / "batches" / "batch_dead").exists()
        assert redis.zrange(files_of("ann"), 0, -1) == [b"file-new", b"file-read"]
        assert redis.zrange(EXPIRING_FILES, 0, -1) == [b"file-read", b"file-new"]
        assert not redis.exists(file_key("file-old"))
        redis.delete(file_readers("file-read"))
        swept(clean_redis_url, storage)
        assert [path.name for path in (tmp_path / "content").iterdir()] == ["file-new"]


def swept(url: str, storage: Storage) -> None:
    async def run() -> None:
        redis = connect_async(url)
        await sweep(redis, storage)
        await redis.aclose()

    asyncio.run(run())


def test_what_fails_while_it_is_written_is_not_there(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(OSError, match="full"), storage.writing("content/a") as file:
        file.write(b"half")
        raise OSError("full")
    assert not list((tmp_path / "content").iterdir())


def test_a_range_is_read_alone_and_what_is_missing_is_said(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.put("a/b", b"0123456789")
    assert (storage.read("a/b", 2, 5), b"".join(storage.pieces("a/b"))) == (b"234", b"0123456789")
    with pytest.raises(FileNotFoundError):
        storage.read("a/c")
    storage.remove("a/c")
