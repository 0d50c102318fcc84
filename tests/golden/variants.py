"""A checkpoint of families/ with some of its files changed, as a golden in served/ describes it: weights are not copied
into the repository twice.
"""

import json
import shutil
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent
SERVED = GOLDEN / "served"


def golden_of(name: str) -> dict[str, Any]:
    """served/NAME.expected.json: a checkpoint (`from`), `changes` to its JSON files, new `files`; and expectations."""
    golden: dict[str, Any] = json.loads((SERVED / f"{name}.expected.json").read_text("utf-8"))
    return golden


def made(golden: dict[str, Any], directory: Path) -> Path:
    """The checkpoint of a golden, made in `directory`."""
    shutil.copytree(GOLDEN / golden["from"], directory)
    for name, changes in golden["changes"].items():
        value = json.loads((directory / name).read_text("utf-8"))
        (directory / name).write_text(json.dumps({**value, **changes}), "utf-8")
    for name, content in golden["files"].items():
        (directory / name).write_text(content, "utf-8")
    return directory
