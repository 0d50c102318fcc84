"""What is decided for well-known public checkpoints is what their makers meant.

`tests/data/checkpoints` has their configuration files, SOURCES.md there says where from, and expected.json is the table
of what is decided: read it beside the checkpoints' cards.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pooling.errors import CheckpointError
from pooling.inspection import inspected
from pooling.model_options import ModelOptions
from tests.pooling.test_inspection import options_of

CHECKPOINTS = Path(__file__).parents[1] / "data" / "checkpoints"
EXPECTED: dict[str, Any] = json.loads((CHECKPOINTS / "expected.json").read_text("utf-8"))
REFUSED: dict[str, str] = json.loads((CHECKPOINTS / "refused.json").read_text("utf-8"))

# A fact that the table does not give does not apply.
FACTS = (
    "architecture",
    "model",
    "convert",
    "tasks",
    "head",
    "pooling_type",
    "normalize",
    "activation",
    "step_tag_id",
    "returned_token_ids",
    "labels",
    "label_names",
    "max_model_len",
    "lowercase",
    "dimensions",
    "supported_dimensions",
    "prompts",
    "default_prompt",
)


def directory_of(name: str) -> Path:
    """The folder of a checkpoint; what stands behind a # tells apart several ways to serve it."""
    return CHECKPOINTS / name.partition("#")[0].replace("/", "--")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_public_checkpoint_is_served_as_its_makers_meant(name: str) -> None:
    row = EXPECTED[name]
    found = inspected(directory_of(name), options_of(row.get("options", {})))
    assert set(row["facts"]) <= set(FACTS)
    assert {fact: found.facts[fact] for fact in FACTS} == {fact: row["facts"].get(fact) for fact in FACTS}
    assert {fact: found.origins[fact] for fact in row["origins"]} == row["origins"]
    assert found.facts["runner"] == "pooling"
    assert found.facts["parameters"] is None


@pytest.mark.parametrize("name", REFUSED)
def test_a_public_checkpoint_of_another_kind_is_refused_by_name(name: str) -> None:
    with pytest.raises(CheckpointError, match=REFUSED[name]):
        inspected(directory_of(name), ModelOptions())


def test_every_checkpoint_is_in_one_of_the_tables_and_has_a_source() -> None:
    names = {name.partition("#")[0] for name in (*EXPECTED, *REFUSED)}
    assert {directory_of(name).name for name in names} == {path.name for path in CHECKPOINTS.iterdir() if path.is_dir()}
    sources = (CHECKPOINTS / "SOURCES.md").read_text("utf-8")
    assert not [name for name in names if f"| {name} |" not in sources]
    assert len({name.partition("#")[0] for name in EXPECTED}) >= 32
