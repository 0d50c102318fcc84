"""`millpond inspect` prints what is decided, for people and as JSON, and loads nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli import main
from tests.server import GOLDEN, TINY_BERT

PUBLIC = Path(__file__).parents[1] / "data" / "checkpoints"


def inspected(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["millpond", "inspect", *arguments])
    return main()


def test_no_paddle_is_loaded() -> None:
    code = (
        "import sys; from api.cli import main; "
        f"sys.argv = ['millpond', 'inspect', {str(TINY_BERT)!r}, '--json']; status = main(); "
        "print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["architecture"] == "BertModel"
    loaded = {name.split(".")[0] for name in ended.stderr.split()}
    assert "pooling" in loaded
    assert not loaded & {"paddle", "torch", "transformers", "workers"}


def test_people_read_a_line_for_each_fact(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspected(monkeypatch, str(PUBLIC / "Qwen--Qwen3-Embedding-0.6B")) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    shown = {name: " ".join(rest.split()) for name, rest in lines}
    assert shown["architecture"] == "Qwen3ForCausalLM (config.json)"
    assert shown["convert"] == "embed (the name Qwen3ForCausalLM)"
    assert shown["normalize"] == "yes (modules.json)"
    assert shown["prompts"] == "query, document (config_sentence_transformers.json)"
    assert shown["parameters"].startswith("unknown (")
    assert "labels" not in shown


def test_everything_that_is_decided_is_shown_with_its_origin_in_both_forms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspected(monkeypatch, str(GOLDEN / "families" / "embedding-gemma")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert inspected(monkeypatch, str(GOLDEN / "families" / "embedding-gemma"), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    shown = {line.split()[0]: line.rpartition("  (")[2].rstrip(")") for line in lines if line.endswith(")")}
    for name in (
        *("runner", "convert", "tasks", "head", "pooling_type", "normalize", "max_model_len"),
        *("dimensions", "supported_dimensions", "parameters", "weights_bytes", "stored_dtype"),
    ):
        assert facts[name] is not None
        assert shown[name] == facts["origins"][name]
    assert facts["prompts"] == []
    assert (facts["origins"]["dimensions"], facts["origins"]["pooling_type"]) == ("modules.json", "modules.json")
    assert facts["origins"]["max_model_len"] == "tokenizer_config.json"


@pytest.mark.parametrize("named", [[str(TINY_BERT)], ["--model", str(TINY_BERT)]])
def test_the_model_is_named_alone_or_by_its_flag_and_options_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: list[str]
) -> None:
    options = ["--pooler-config", '{"pooling_type": "CLS"}', "--max-model-len", "10"]
    assert inspected(monkeypatch, *named, *options, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["pooling_type"], facts["origins"]["pooling_type"]) == ("CLS", "--pooler-config")
    assert (facts["max_model_len"], facts["origins"]["max_model_len"]) == (10, "--max-model-len")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/does/not/exist"], "/does/not/exist is neither a directory nor a model id"),
        ([str(PUBLIC)], "config.json is missing"),
        ([str(TINY_BERT), "--max-model-len", "65"], "from 1 to 64"),
        ([str(TINY_BERT), "--convert", "classify"], "--convert classify does not fit BertModel"),
        ([str(TINY_BERT), "--model", "b"], "give either"),
        ([str(TINY_BERT), "--jsn"], "knows no --jsn: did you mean --json?"),
        ([str(TINY_BERT), "--port", "1"], "knows no --port"),
    ],
)
def test_a_wrong_call_ends_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert inspected(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
