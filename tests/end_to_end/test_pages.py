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


def calls(page: Path) -> Iterator[tuple[str, str]]:
    """The `curl` commands of a page, each with the variables that its block sets before.

    What follows a command's first line is indented.
    """
    for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        before = ""
        for command in re.split(r"\n(?=\S)", block.strip()):
            if re.match("[A-Z]+=", command):
                before += command + "\n"
            if command.startswith("curl "):
                yield before, command


PRINTED = [(page, before, call) for page in PAGES for before, call in calls(page)]


@pytest.fixture(scope="module")
def embedder() -> Iterator[Millpond]:
    # By the name that the first call of the README asks for.
    name = "sentence-transformers/all-MiniLM-L6-v2"
    with serving("--served-model-name", name, "--job-workers", "1", model=TINY_BERT) as server:
        yield server


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    with serving(model=made(golden_of("chat-reward"), tmp_path_factory.mktemp("pages") / "reward")) as server:
        yield server


@pytest.mark.parametrize(
    ("page", "before", "call"), PRINTED, ids=[f"{page.stem}-{number}" for number, (page, *_) in enumerate(PRINTED)]
)
def test_a_printed_call_is_answered(embedder: Millpond, reward: Millpond, page: Path, before: str, call: str) -> None:
    server = reward if any(route in call for route in OF_REWARDS) else embedder
    watched = call.replace("curl ", "curl --show-error --write-out '%{stderr}%{http_code}' ", 1)
    asked, found = re.subn(r"http://(localhost|127\.0\.0\.1):\d+", server.url, before + watched)
    assert found == 1 + before.count("curl "), call
    done = subprocess.run(["bash", "-c", asked], capture_output=True, timeout=60)
    assert done.stderr in (b"200", b"202"), (page.name, call, done.stdout[:500], done.stderr)


def test_the_pages_print_calls() -> None:
    assert len(PRINTED) > 10
