"""The reward request of FastDeploy's document, as printed but for its host, on a reward model that sees images."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.api.media_host import media_host
from tests.end_to_end.test_images import IMAGES, VISION, sent
from tests.server import client_of, serving

REWARD = VISION / "ernie-vl-reward"
DOCUMENT = (Path(__file__).parents[1] / "data" / "fastdeploy" / "reward.sh").read_text("utf-8")
LARGEST_DIFFERENCE = 1e-3


def known() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VISION / "ernie-vl-reward.expected.json").read_text("utf-8"))["inputs"]
    return found


def test_the_documents_reward_request_works_as_printed() -> None:
    with media_host({"a.png": IMAGES["square.png"]}) as host:
        allowed = ("--allowed-media-domains", f"127.0.0.1:{host.port}")
        with serving(*allowed, model=REWARD) as server:
            command = DOCUMENT.replace("http://xxxx", server.url).replace("https://xxx/a.png", host.url("a.png"))
            assert "图里有几个人" in command
            assert '"image_size": 224' in command
            output = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60).stdout
            reply = json.loads(output)
            assert len(reply["data"][0]["score"]) == 1, reply
            assert reply["usage"]["prompt_tokens"] > 25
            assert host.asked["a.png"] == 1


def test_raw_rewards_are_those_of_the_reference() -> None:
    with serving(model=REWARD) as server, client_of(server) as client:
        for case in known():
            reply = client.post("/v1/chat/reward", json={"messages": sent(case["messages"])})
            assert reply.status_code == 200, reply.text
            score = reply.json()["data"][0]["score"]
            np.testing.assert_allclose(score, case["rows"][0], rtol=0, atol=LARGEST_DIFFERENCE)
            assert reply.json()["usage"]["prompt_tokens"] == len(case["ids"])


@pytest.mark.parametrize("sizes", [{"image_size": 16}, {"max_pixels": 256}, {"size": {"longest_edge": 256}}])
def test_fewer_pixels_are_fewer_tokens(sizes: dict[str, object]) -> None:
    with serving(model=REWARD) as server, client_of(server) as client:
        messages = sent(known()[1]["messages"])
        whole, fewer = (
            client.post("/v1/chat/reward", json={"messages": messages, "mm_processor_kwargs": options}).json()
            for options in (None, sizes)
        )
        assert fewer["usage"]["prompt_tokens"] < whole["usage"]["prompt_tokens"]
