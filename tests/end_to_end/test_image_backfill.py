"""`millpond embed` over rows with images: each row once, whatever is killed, and bad ones apart."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.bulk.workspace import ERRORS_SUFFIX
from scheduler.connection import connect
from tests.api.media_host import media_host
from tests.end_to_end.backfills import begun, done
from tests.end_to_end.test_backfill_soak import kill_one, wait_for_chunks
from tests.end_to_end.test_images import IMAGES, VISION, known, sent
from tests.server import Millpond, client_of, serving

MODEL = VISION / "qwen2-vl"
SOAK_ROWS = int(os.environ.get("MILLPOND_SOAK_IMAGE_ROWS", "5000"))
SOAK_IMAGES = int(os.environ.get("MILLPOND_SOAK_IMAGES", "10000"))
KILLS = 5


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def noise(directory: Path, count: int, side: int = 24) -> list[Path]:
    """So many different images."""
    generator = np.random.default_rng(3)
    files = []
    for number in range(count):
        files.append(directory / f"{number}.png")
        Image.fromarray(generator.integers(0, 256, (side, side + number % 9, 3), dtype=np.uint8)).save(files[-1])
    return files


def test_rows_with_urls_paths_and_bytes_get_the_vectors_of_single_calls(tmp_path: Path) -> None:
    with media_host(IMAGES) as host:
        values = [host.url("odd.png"), str(VISION / "images" / "odd.png")]
        values.append("data:image/png;base64," + base64.b64encode(IMAGES["odd.png"]).decode())
        rows: list[dict[str, object]] = [{"id": n, "image": each, "text": "a duck"} for n, each in enumerate(values)]
        rows.append({"id": 3, "image": str(tmp_path / "nowhere.png"), "text": "a duck"})
        rows.append({"id": 4, "image": host.url("gone.png"), "text": "a duck"})
        source, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
        allowed = ("--allowed-media-domains", f"127.0.0.1:{host.port}")
        status, said = done("embed", source, "--output", output, "--model", MODEL, *allowed)
        assert status == 1, said
        found = read(output)
        assert [row["id"] for row in found] == [0, 1, 2]
        with serving(*allowed, model=MODEL) as server, client_of(server) as client:
            message = {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": values[0]}},
                    {"type": "text", "text": "a duck"},
                ],
            }
            single = client.post("/v1/embeddings", json={"messages": [message]}).json()["data"][0]["embedding"]
        for row in found:
            np.testing.assert_allclose(np.array(row["embedding"]), np.array(single), atol=1e-5)
    bad = read(Path(f"{output}{ERRORS_SUFFIX}"))
    assert [each["line"] for each in bad] == [4, 5]


def test_rows_over_http_have_images_too() -> None:
    with serving(model=MODEL) as server, client_of(server) as client:
        rows = [{"messages": sent(each["messages"])} for each in known()]
        reply = client.post(
            "/v1/rows",
            json={"task": "embed", "rows": [*rows, {"messages": sent(known()[5]["messages"], lambda _: "file:///x")}]},
        )
        assert reply.status_code == 200, reply.text
        *good, bad = reply.json()["data"]
        for entry, case in zip(good, known(), strict=True):
            wanted = np.array(case["rows"][0])
            assert np.array(entry["embedding"]) @ wanted >= 0.9999 * np.linalg.norm(entry["embedding"])
            assert entry["tokens"] == len(case["ids"])
        assert bad["error"]["code"] == "invalid_image_url"


@pytest.mark.soak
def test_five_kills_of_the_worker_cost_no_row_and_double_none(tmp_path: Path) -> None:
    files = noise(tmp_path, SOAK_ROWS)
    rows: list[dict[str, object]] = [{"id": n, "image": str(file)} for n, file in enumerate(files)]
    source, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    process = begun("embed", source, "--output", output, "--model", MODEL, "--chunk-rows", 100, log=tmp_path / "log")
    chunks = SOAK_ROWS // 100
    for kill in range(KILLS):
        wait_for_chunks(process, output, (kill + 1) * chunks // (KILLS + 1))
        kill_one(process.pid, "worker")
    assert process.wait(3000) == 0, (tmp_path / "log").read_text()
    found = read(output)
    assert [row["id"] for row in found] == list(range(SOAK_ROWS))
    assert len({json.dumps(row["embedding"]) for row in found}) == SOAK_ROWS, "every image is another one"
    assert not Path(f"{output}{ERRORS_SUFFIX}").exists()


@pytest.fixture
def small_cache() -> Iterator[Millpond]:
    """A server that keeps one MiB of images."""
    with serving("--media-cache-mb", "1", model=MODEL) as server:
        yield server


@pytest.mark.soak
def test_many_images_pass_within_the_budget(small_cache: Millpond, tmp_path: Path) -> None:
    files = noise(tmp_path, SOAK_IMAGES)
    most, begun_with, ended_with = 0, 0, 0
    with client_of(small_cache) as client, connect(f"unix://{small_cache.data_directory}/redis.sock?db=0") as redis:
        (sizes,) = [None]
        for begin in range(0, SOAK_IMAGES, 50):
            rows = [
                {"messages": [{"role": "user", "content": [{"type": "image", "image": uri(file)}]}]}
                for file in files[begin : begin + 50]
            ]
            reply = client.post("/v1/rows", json={"task": "embed", "rows": rows})
            assert reply.status_code == 200, reply.text
            assert not any("error" in entry for entry in reply.json()["data"])
            sizes = sizes or next(iter(redis.keys("*}:blob-sizes")))
            most = max(most, int(redis.hget(sizes, "total")))
            ended_with = int(redis.info("memory")["used_memory"])
            begun_with = begun_with or ended_with
    print(f"\nmost bytes of images: {most}; Redis: {begun_with} bytes after the first 50, {ended_with} after all")
    assert most <= 1024 * 1024
    assert ended_with <= begun_with + 4 * 1024 * 1024


def uri(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
