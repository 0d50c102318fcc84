"""A checkpoint whose configuration and weights do not fit is refused in one sentence that names what is wrong."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine
from pooling.errors import CheckpointError
from tests.pooling.conftest import GOLDEN

# Golden, changes to its config.json (None takes a field away), what the message says.
WRONG: list[tuple[str, dict[str, object], str]] = [
    ("qwen3", {"num_hidden_layers": 5}, "layer_types.*each of the model's 5 layers"),
    ("gemma3", {"num_hidden_layers": 5}, "layer_types.*each of the model's 5 layers"),
    ("modernbert", {"num_hidden_layers": 4}, "layer_types.*each of the model's 4 layers"),
    ("llama", {"num_hidden_layers": 4}, r"lacks 1\d of the tensors.*layers\.3\."),
    ("llama", {"num_hidden_layers": 2}, r"1\d tensors that are no part of this model.*layers\.2\."),
    ("llama", {"intermediate_size": 99}, r"mlp\.\w+\.(weight|bias) in .*model-0.*safetensors has the shape .*99"),
    ("llama", {"num_key_value_heads": 4}, "num_key_value_heads = 4.*must divide"),
    ("llama", {"architectures": None}, "config.json has no architectures"),
    ("llama", {"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel, which is not supported"),
    ("llama", {"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
    ("llama", {"hidden_act": "swish9"}, "swish9"),
    ("ernie-moe", {"moe_num_experts": 6}, r"experts\.5\.|gate\.weight"),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_wrong_checkpoints_are_refused(name: str, changes: dict[str, object], message: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    shutil.copytree(GOLDEN / "families" / name, directory)
    config = json.loads((directory / "config.json").read_text("utf-8"))
    kept = {key: value for key, value in (config | changes).items() if value is not None}
    (directory / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        Engine.load(resolve_spec(directory))
    assert re.search(message, str(caught.value)), caught.value
    assert str(caught.value).count("\n") == 0
