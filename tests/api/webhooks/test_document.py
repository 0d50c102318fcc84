"""The receiver that docs/webhooks.md prints verifies what is delivered, once, and OpenAI's client does too."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from api.webhooks.events import webhook_about
from api.webhooks.target import Target
from tests.api.webhooks.receiving import Receiver, answering, post
from tests.api.webhooks.test_delivering import OLD, delivering, ended, news, run
from tests.server import free_ports

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"


@pytest.mark.parametrize(("secret", "end"), [(OLD, "delivered"), ("whsec_" + "A" * 32, "forged")])
def test_the_printed_receiver_takes_what_is_signed_by_its_secret_only(
    clean_redis_url: str, secret: str, end: str
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (port,) = free_ports(1)
    assert '("127.0.0.1", 9000)' in code

    async def scenario(receiver: subprocess.Popen[str]) -> None:
        target = Target(f"http://127.0.0.1:{port}/", ())
        async with delivering(clean_redis_url) as redis:
            webhook = webhook_about(target, "batch.completed", "batch_7", 1)
            await post(redis, webhook)
            if end == "delivered":
                assert await ended(redis, webhook) == "delivered"
                assert receiver.stdout
                assert receiver.stdout.readline() == "batch.completed batch_7\n"
            else:
                assert await asyncio.to_thread(refusals, receiver) == '"POST / HTTP/1.1" 400 -'

    with subprocess.Popen(
        [sys.executable, "-c", code.replace("9000", str(port))],
        env={"WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as receiver:
        try:
            run(scenario(receiver))
        finally:
            receiver.kill()


def refusals(receiver: subprocess.Popen[str]) -> str:
    """The line of the receiver's log that tells of a refusal, without its time."""
    assert receiver.stderr
    for line in receiver.stderr:
        if "POST" in line:
            return line.split("] ")[1].strip()
    return ""


def test_openais_client_reads_the_same_event(clean_redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            Receiver(lambda number: answering(200)).running() as receiver,
            delivering(clean_redis_url) as redis,
        ):
            await post(redis, webhook := news(receiver))
            assert await ended(redis, webhook) == "delivered"
            (got,) = receiver.got
            with openai.OpenAI(api_key="none", webhook_secret=OLD) as client:
                event = client.webhooks.unwrap(got.body, got.headers)
            assert event.type == "batch.completed"
            assert event.data.id == "batch_1"

    run(scenario())
