"""FastDeploy's page on pooling models as printed (tests/data/fastdeploy): its start commands, and its three requests.

Only the addresses of the server and of the image and the model's path are replaced, and ranks that a machine for tests
has no cores for; a host of images on this machine must be allowed.
"""

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.api.media_host import MediaHost, media_host
from tests.end_to_end.test_images import IMAGES, VISION, sent
from tests.pooling.checkpoints import copied, edit_json
from tests.server import GOLDEN, Millpond, client_of

PRINTED = Path(__file__).parents[1] / "data" / "fastdeploy"

MODULE = "fastdeploy.entrypoints.openai.api_server"

# One that ends each message, and marks whose it is.
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"

PRINTED_IMAGE = "https://xxx/a.png"

LARGEST_DIFFERENCE = 1e-3


def known_rewards() -> list[dict[str, Any]]:
    """Conversations and what transformers makes of them; the last is the page's own."""
    found: list[dict[str, Any]] = json.loads((VISION / "ernie-vl-reward.expected.json").read_text("utf-8"))["inputs"]
    return found


def flags(name: str, model: Path) -> list[str]:
    """What a printed start command says behind the module's name."""
    command = (PRINTED / f"{name}.sh").read_text("utf-8")
    assert "${model_path}" in command
    words = shlex.split(command.replace("${model_path}", str(model)).replace("\\\n", " "))
    return words[words.index(MODULE) + 1 :]


def running(name: str, model: Path, *further: str) -> Iterator[httpx.Client]:
    """`millpond serve` with the printed flags, on the printed ports."""
    given = [*flags(name, model), *further]
    port = int(given[given.index("--port") + 1])
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        server = Millpond("serve", [*given, "--data-dir", directory])
        server.port = port
        try:
            server.wait_for_line("^serving; try", seconds=120)
            with client_of(server) as client:
                yield client
        finally:
            if server.process.poll() is None:
                server.stop()


def curl(client: httpx.Client, name: str, address: str, image: str = "") -> Any:  # whatever JSON comes
    """The answer to a printed request, with this address in place of its image's."""
    command = (PRINTED / f"{name}.sh").read_text("utf-8")
    assert command.count(f"'{address}/") == 1
    command = command.replace(PRINTED_IMAGE, image)
    printed = command.replace(f"'{address}/", f"'{client.base_url}/").replace("curl ", "curl -s ", 1)
    output = subprocess.run(["bash", "-c", printed], capture_output=True, check=True, timeout=60).stdout
    return json.loads(output)


def long_checkpoint(family: str, directory: Path, tokens: int) -> Path:
    """A tiny checkpoint that takes so many tokens, and has a chat template."""
    copied(GOLDEN / family, directory)
    edit_json(directory / "config.json", lambda config: config.update(max_position_embeddings=tokens))
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(model_max_length=tokens))
    if not (directory / "chat_template.jinja").exists():
        (directory / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return directory


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The page's first server, with the name that its requests use."""
    model = long_checkpoint("families/qwen3-embedding", tmp_path_factory.mktemp("embedding") / "qwen3", 32768)
    yield from running("serve-embedding", model, "--served-model-name", "text-embedding-chat-model")


@pytest.fixture(scope="module")
def host() -> Iterator[MediaHost]:
    """A host of the goldens' images."""
    with media_host(IMAGES) as running_host:
        yield running_host


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory, host: MediaHost) -> Iterator[httpx.Client]:
    """The page's second server, on two ranks in place of eight."""
    model = long_checkpoint("vision/ernie-vl-reward", tmp_path_factory.mktemp("reward") / "RM_v1008", 8192)
    yield from running(
        "serve-reward", model, "--tensor-parallel-size", "2", "--allowed-media-domains", f"127.0.0.1:{host.port}"
    )


def test_its_request_with_texts(embedding: httpx.Client) -> None:
    reply = curl(embedding, "embed-texts", "YOUR_SERVICE_URL")
    assert reply["id"].startswith("embd-")
    assert (reply["object"], reply["model"]) == ("list", "text-embedding-chat-model")
    assert [(each["index"], each["object"]) for each in reply["data"]] == [(0, "embedding"), (1, "embedding")]
    vectors = np.asarray([each["embedding"] for each in reply["data"]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 0
    assert reply["created"] > 1_700_000_000


def test_its_request_with_messages(embedding: httpx.Client) -> None:
    reply = curl(embedding, "embed-messages", "YOUR_SERVICE_URL")
    (data,) = reply["data"]
    text = "user: Generate embedding for user query.\n"
    body = {"model": "default", "input": text, "add_special_tokens": False}
    (other,) = embedding.post("/v1/embeddings", json=body).json()["data"]
    np.testing.assert_allclose(data["embedding"], other["embedding"], atol=1e-5)


def test_its_request_for_a_reward(reward: httpx.Client, host: MediaHost) -> None:
    reply = curl(reward, "reward", "http://xxxx", host.url("odd.png"))
    assert reply["id"].startswith("reward-")
    assert (reply["object"], reply["model"], reply["pooling"]) == ("object", "RM_v1008", "LAST")
    (data,) = reply["data"]
    assert (data["index"], data["object"]) == (0, "reward")
    case = known_rewards()[-1]
    np.testing.assert_allclose(data["score"], case["rows"][0], rtol=0, atol=LARGEST_DIFFERENCE)
    assert reply["usage"]["prompt_tokens"] == len(case["ids"])
    assert reply["usage"]["total_tokens"] == len(case["ids"])


@pytest.mark.parametrize("case", known_rewards(), ids=range(len(known_rewards())))
def test_conversations_with_images_get_the_rewards_of_the_reference(
    reward: httpx.Client, host: MediaHost, case: dict[str, Any]
) -> None:
    reply = reward.post("/v1/chat/reward", json={"messages": sent(case["messages"], host.url)})
    assert reply.status_code == 200, reply.text
    np.testing.assert_allclose(reply.json()["data"][0]["score"], case["rows"][0], rtol=0, atol=LARGEST_DIFFERENCE)
    assert reply.json()["usage"]["prompt_tokens"] == len(case["ids"])


def test_its_option_says_how_large_an_image_may_be(reward: httpx.Client, host: MediaHost) -> None:
    messages = sent(known_rewards()[-1]["messages"], host.url)
    tokens = {
        side: reward.post(
            "/v1/chat/reward", json={"messages": messages, "mm_processor_kwargs": {"image_size": side}}
        ).json()["usage"]["prompt_tokens"]
        for side in (16, 224)
    }
    assert tokens[16] < tokens[224] == len(known_rewards()[-1]["ids"])


def test_every_default_of_its_fields_may_be_written_out(embedding: httpx.Client, reward: httpx.Client) -> None:
    common = {
        "model": None,
        "user": None,
        "dimensions": None,
        "truncate_prompt_tokens": None,
        "priority": 0,
        "normalize": None,
        "request_id": "mine",
    }
    of_messages = {
        "add_generation_prompt": False,
        "continue_final_message": False,
        "add_special_tokens": False,
        "chat_template": None,
        "chat_template_kwargs": None,
        "mm_processor_kwargs": None,
    }
    messages = [{"role": "user", "content": "a mill"}]
    for client, path, short, long in (
        (embedding, "/v1/embeddings", {"input": "a mill"}, {"encoding_format": "float", "add_special_tokens": True}),
        (embedding, "/v1/embeddings", {"messages": messages}, {"encoding_format": "float", **of_messages}),
        (reward, "/v1/chat/reward", {"messages": messages}, {"return_token_ids": False, **of_messages}),
    ):
        whole = client.post(path, json={**short, **common, **long})
        assert whole.status_code == 200, whole.text
        assert whole.json()["id"] == "mine"
        plain = client.post(path, json=short).json()
        assert _numbers(whole.json()) == pytest.approx(_numbers(plain), abs=1e-5)


def _numbers(reply: dict[str, Any]) -> list[float]:
    (data,) = reply["data"]
    found: list[float] = data.get("embedding") or data["score"]
    return found
