"""The calls that the pages print are answered as printed, but for the address."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden.variants import golden_of, made
from tests.server import TINY_BERT, Millpond, serving

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

OF_REWARDS = ("/v1/chat/reward", "/get_reward")
"""Routes that an embedding model is not for."""


def calls(page: Path) -> Iterator[str]:
    """The `curl` commands of a page; what follows a command's first line is indented."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for command in re.split(r"\n(?=\S)", block.strip()):
            if command.startswith("curl "):
                yield command


PRINTED = [(page, call) for page in PAGES for call in calls(page)]


@pytest.fixture(scope="module")
def embedder() -> Iterator[Millpond]:
    # By the name that the first call of the README asks for.
    with serving("--served-model-name", "sentence-transformers/all-MiniLM-L6-v2", model=TINY_BERT) as server:
        yield server


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    with serving(model=made(golden_of("chat-reward"), tmp_path_factory.mktemp("pages") / "reward")) as server:
        yield server


@pytest.mark.parametrize(
    ("page", "call"), PRINTED, ids=[f"{page.stem}-{number}" for number, (page, _) in enumerate(PRINTED)]
)
def test_a_printed_call_is_answered(embedder: Millpond, reward: Millpond, page: Path, call: str) -> None:
    server = reward if any(route in call for route in OF_REWARDS) else embedder
    command, found = re.subn(r"http://(localhost|127\.0\.0\.1):\d+", server.url, call)
    assert found == 1, call
    asked = command.replace("curl ", "curl --show-error --write-out '%{stderr}%{http_code}' ", 1)
    done = subprocess.run(["bash", "-c", asked], capture_output=True, timeout=60)
    assert done.stderr == b"200", (page.name, call, done.stdout[:500], done.stderr)


def test_the_pages_print_calls() -> None:
    assert len(PRINTED) > 10
