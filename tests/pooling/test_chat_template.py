"""The chat template and its special tokens are those that transformers would find."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pooling.chat_template import read_chat_template
from pooling.errors import CheckpointError
from tests.pooling.checkpoints import copied, edit_json
from tests.pooling.conftest import TINY_BERT


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(TINY_BERT, tmp_path / "model")


def as_transformers_finds_it(directory: Path) -> tuple[object, dict[str, str]]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    return tokenizer.chat_template, tokenizer.special_tokens_map


def test_a_checkpoint_may_have_none(directory: Path) -> None:
    assert read_chat_template(directory) is None
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(chat_template=[{"name": "rag"}]))
    assert read_chat_template(directory) is None
    (directory / "tokenizer_config.json").unlink()
    assert read_chat_template(directory) is None


def test_the_file_of_its_own_wins_over_the_configuration(directory: Path) -> None:
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(chat_template="old"))
    found = read_chat_template(directory)
    assert found is not None
    assert (found.source, found.path.name) == ("old", "tokenizer_config.json")
    assert (found.source, dict(found.special_tokens)) == as_transformers_finds_it(directory)
    (directory / "chat_template.jinja").write_text("neu: ü")
    found = read_chat_template(directory)
    assert found is not None
    assert (found.source, found.path.name) == ("neu: ü", "chat_template.jinja")
    assert (found.source, dict(found.special_tokens)) == as_transformers_finds_it(directory)


def test_of_several_templates_the_default_counts(directory: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(chat_template=named))
    found = read_chat_template(directory)
    assert found is not None
    assert found.source == "plain"


@pytest.mark.parametrize("decoder", [False, True])
def test_special_tokens_are_those_of_transformers(directory: Path, decoder: bool) -> None:
    def change(config: dict[str, object]) -> None:
        config |= {"chat_template": "x", "bos_token": {"content": "[CLS]", "__type": "AddedToken"}, "eos_token": None}
        if decoder:
            entry = {"content": "[CLS]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
            config["added_tokens_decoder"] = {"2": {**entry, "special": True}}

    edit_json(directory / "tokenizer_config.json", change)
    (directory / "special_tokens_map.json").write_text('{"eos_token": {"content": "[SEP]"}, "unk_token": "[MASK]"}')
    found = read_chat_template(directory)
    assert found is not None
    assert dict(found.special_tokens) == as_transformers_finds_it(directory)[1]


def test_a_broken_file_is_named(directory: Path) -> None:
    (directory / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja cannot be read"):
        read_chat_template(directory)
