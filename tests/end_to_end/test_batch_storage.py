"""Files of batches on an S3-compatible storage: a real server of one, on loopback."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from api.files.storage import Storage
from tests.end_to_end.test_batches import batch_of, content, ended, line
from tests.server import Millpond, free_ports, serving

boto3 = pytest.importorskip("boto3", reason="installed by `make soak`")

BUCKET = "millpond"


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """The URL of a running S3-compatible server with a bucket."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not answers(url):
        assert time.monotonic() < deadline
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
    yield url
    process.terminate()
    process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        time.sleep(0.05)
        return False


@pytest.mark.soak
def test_a_batch_goes_from_upload_to_output_on_it(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": storage, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with serving("--job-workers", "1", "--file-storage", f"s3://{BUCKET}/files") as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        lines = [line(str(number), f"pond {number}") for number in range(350)]
        lines.append(line("long", "a " * 5000))
        batch = ended(client, batch_of(client, lines))
        assert batch.status == "completed"
        assert [each["custom_id"] for each in content(client, batch.output_file_id)] == [str(n) for n in range(350)]
        assert [each["custom_id"] for each in content(client, batch.error_file_id)] == ["long"]
        assert batch.output_file_id
        assert keys(storage) == {
            f"files/content/{each}" for each in (batch.input_file_id, batch.output_file_id, batch.error_file_id)
        }
        assert client.files.delete(batch.output_file_id).deleted
        assert len(keys(storage)) == 2
        assert not local_files(server)


@pytest.mark.soak
def test_an_upload_that_fails_leaves_nothing_on_it(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", storage)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    files, before = Storage(f"s3://{BUCKET}/files"), keys(storage)
    for size in (10, 60_000_000):
        with pytest.raises(OSError, match="broken"), files.writing(f"content/{size}") as file:
            file.write(b"x" * size)
            raise OSError("broken")
    gc.collect()
    assert keys(storage) == before
    assert not boto3.client("s3", endpoint_url=storage).list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def keys(url: str) -> set[str]:
    found = boto3.client("s3", endpoint_url=url).list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {each["Key"] for each in found}


def local_files(server: Millpond) -> list[object]:
    assert server.data_directory
    return list((server.data_directory / "files").glob("**/*"))
