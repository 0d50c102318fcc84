"""What a checkpoint's small files say about how it is served."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pooling.config import resolve_spec
from pooling.errors import CheckpointError, OptionError
from pooling.model_options import ModelOptions
from pooling.pooler_config import Activation, PoolerConfig, PoolingType
from tests.pooling.checkpoints import copied, edit_json
from tests.pooling.conftest import GOLDEN, TINY_BERT, TINY_BERT_CLS

FAMILIES = GOLDEN / "families"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(TINY_BERT, tmp_path / "model")


def test_a_bert_checkpoint_is_read() -> None:
    spec = resolve_spec(TINY_BERT)
    assert (spec.architecture.name, spec.architecture.family.module, spec.dtype) == ("BertModel", "bert", "float32")
    assert (spec.hidden_size, spec.tasks, spec.convert) == (48, ("embed",), "none")
    assert spec.embedding_dimensions == 48
    assert spec.pooler == PoolerConfig(PoolingType.MEAN, normalize=True)
    assert spec.settings.integer("type_vocab_size") == 2


def test_a_checkpoint_without_normalize_and_with_matryoshka_dimensions_is_read() -> None:
    spec = resolve_spec(TINY_BERT_CLS)
    assert spec.architecture.name == "BertForMaskedLM"
    assert spec.pooler == PoolerConfig(PoolingType.CLS, normalize=False, matryoshka_dimensions=(12, 24, 36))


def test_the_smallest_stated_limit_counts_and_is_named(directory: Path) -> None:
    spec = resolve_spec(directory)
    assert (spec.max_model_len, spec.origins["max_model_len"]) == (64, "sentence_bert_config.json")
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(model_max_length=40))
    spec = resolve_spec(directory)
    assert (spec.max_model_len, spec.origins["max_model_len"]) == (40, "tokenizer_config.json")


def test_without_any_other_limit_the_positions_count(directory: Path) -> None:
    (directory / "sentence_bert_config.json").unlink()
    # transformers writes this number for a tokenizer without a limit.
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(model_max_length=int(1e30)))
    spec = resolve_spec(directory)
    assert (spec.max_model_len, spec.origins["max_model_len"]) == (72, "config.json")


def test_a_smaller_length_may_be_asked_for(directory: Path) -> None:
    spec = resolve_spec(directory, ModelOptions(max_model_len=10))
    assert (spec.max_model_len, spec.origins["max_model_len"]) == (10, "--max-model-len")


@pytest.mark.parametrize("length", [0, -1, 65])
def test_a_length_beyond_the_models_limit_is_refused(directory: Path, length: int) -> None:
    with pytest.raises(OptionError, match=r"from 1 to 64, the limit that sentence_bert_config\.json sets"):
        resolve_spec(directory, ModelOptions(max_model_len=length))


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
def test_a_type_not_supported_is_refused(directory: Path, dtype: str) -> None:
    with pytest.raises(OptionError, match=dtype):
        resolve_spec(directory, ModelOptions(dtype=dtype))


def test_without_modules_the_pooling_is_left_to_the_model_class(directory: Path) -> None:
    (directory / "modules.json").unlink()
    assert resolve_spec(directory).pooler == PoolerConfig(pooling_type=PoolingType.MEAN, normalize=True)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode": "cls"}, PoolingType.CLS),
        ({"pooling_mode": ["lasttoken"]}, PoolingType.LAST),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, PoolingType.LAST),
        ({}, PoolingType.MEAN),
    ],
)
def test_every_way_to_write_the_pooling_is_understood(
    directory: Path, config: dict[str, object], expected: PoolingType
) -> None:
    def replace(value: dict[str, object]) -> None:
        value.clear()
        value.update(config)

    edit_json(directory / "1_Pooling" / "config.json", replace)
    assert resolve_spec(directory).pooler.pooling_type == expected


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", lambda c: c.update(architectures=["T5Model"]), "T5Model.*families Bert,.*add-a-model-family"),
        ("config.json", lambda c: c.pop("architectures"), "config.json has no architectures"),
        ("config.json", lambda c: c.update(hidden_size="large"), "hidden_size = 'large'"),
        ("config.json", lambda c: c.update(vocab_size=None), "vocab_size = None"),
        ("config.json", lambda c: c.update(matryoshka_dimensions=[49]), r"\[49\]"),
        (
            "modules.json",
            lambda c: c.append({"path": "3", "type": "sentence_transformers.models.Dense"}),
            "Dense",
        ),
        ("modules.json", lambda c: c.reverse(), "in place 0"),
        ("1_Pooling/config.json", lambda c: c.update(include_prompt=False), "include_prompt = false"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    directory: Path, file: str, change: Callable[[Any], None], named: str
) -> None:
    edit_json(directory / file, change)
    with pytest.raises(CheckpointError, match=named):
        resolve_spec(directory)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len_tokens"),
        ({"pooling_mode": ["cls", "mean"]}, r"cls \+ mean"),
        ({"pooling_mode": ["mean", "mean"]}, r"mean \+ mean"),
        ({"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ({"pooling_mode_weightedmean_tokens": True}, "pooling_mode_weightedmean_tokens"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "pooling_mode_mean_sqrt_len_tokens"),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            r"pooling_mode_cls_token \+ pooling_mode_mean_tokens",
        ),
    ],
)
def test_a_pooling_that_is_not_supported_is_refused_by_name(
    directory: Path, config: dict[str, object], named: str
) -> None:
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 48, **config}))
    with pytest.raises(
        CheckpointError, match=rf"asks for the pooling .*{named}.*exactly one of mean, cls and lasttoken"
    ):
        resolve_spec(directory)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"id2label": {"0": "no", "10": "yes", "2": "perhaps"}}, ("no", "perhaps", "yes")),
        ({"id2label": None, "num_labels": 1}, ("LABEL_0",)),
        ({"id2label": None}, ("LABEL_0", "LABEL_1")),
    ],
)
def test_labels_are_named_in_their_order_or_counted(
    tmp_path: Path, labels: dict[str, object], names: tuple[str, ...]
) -> None:
    directory = copied(GOLDEN / "families" / "bert-classifier", tmp_path / "model")
    edit_json(directory / "config.json", lambda config: config.update(labels))
    spec = resolve_spec(directory)
    assert (spec.label_names, spec.labels) == (names, len(names))


def test_labels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    directory = copied(GOLDEN / "families" / "bert-classifier", tmp_path / "model")
    edit_json(directory / "config.json", lambda config: config.update(id2label={"no": "0"}))
    with pytest.raises(CheckpointError, match="id2label"):
        resolve_spec(directory)


def test_code_in_the_place_of_a_known_class_must_say_how_tokens_see_each_other(tmp_path: Path) -> None:
    directory = copied(GOLDEN / "families" / "qwen2", tmp_path / "model")
    edit_json(directory / "config.json", lambda config: config.update(auto_map={"AutoModel": "modeling.Qwen2Model"}))
    with pytest.raises(CheckpointError, match=r"'modeling\.Qwen2Model' in auto_map.*add is_causal"):
        resolve_spec(directory)
    edit_json(directory / "config.json", lambda config: config.update(is_causal=False))
    assert resolve_spec(directory).settings.flag("is_causal", default=True) is False
    # Of a class that transformers does not have, its own code is the only definition.
    other = {"AutoModel": "modeling_qwen2_rm.Qwen2ForRewardModel"}
    edit_json(directory / "config.json", lambda config: (config.pop("is_causal"), config.update(auto_map=other)))
    assert resolve_spec(directory).tasks == ("embed",)


def test_the_fingerprint_is_that_of_the_content(directory: Path) -> None:
    original = resolve_spec(TINY_BERT).fingerprint
    assert len(original) == 16
    assert resolve_spec(directory).fingerprint == original
    edit_json(directory / "1_Pooling" / "config.json", lambda config: config.update(pooling_mode="cls"))
    changed = resolve_spec(directory).fingerprint
    assert changed != original
    with (directory / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert resolve_spec(directory).fingerprint not in (original, changed)


def test_the_fingerprint_counts_the_weights_of_modules(directory: Path) -> None:
    original = resolve_spec(directory).fingerprint
    (directory / "2_Dense").mkdir()
    (directory / "2_Dense" / "model.safetensors").write_bytes(b"weights")
    assert resolve_spec(directory).fingerprint != original


def test_an_activation_is_stated_by_the_checkpoint_or_the_user(directory: Path) -> None:
    shutil.rmtree(directory)
    copied(FAMILIES / "bert-reranker", directory)
    silent = resolve_spec(directory)
    assert (silent.activation_stated, silent.pooler.activation) == (False, Activation.NONE)
    asked = resolve_spec(directory, ModelOptions(pooler_config='{"activation": "none"}'))
    assert (asked.activation_stated, asked.pooler.activation) == (True, Activation.NONE)
    edit_json(
        directory / "config.json", lambda config: config.update(sbert_ce_default_activation_function="torch.nn.Tanh")
    )
    assert (resolve_spec(directory).pooler.activation, resolve_spec(directory).activation_stated) == ("tanh", True)
    own = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "prompts": {}}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(own))
    spec = resolve_spec(directory)
    assert (spec.pooler.activation, spec.origins["pooler.activation"]) == (
        "sigmoid",
        "config_sentence_transformers.json",
    )
    assert spec.activation_stated
    (directory / "config_sentence_transformers.json").write_text(json.dumps({"activation_fn": "mine.Squash"}))
    with pytest.raises(CheckpointError, match=r"config_sentence_transformers\.json has activation_fn = 'mine\.Squash'"):
        resolve_spec(directory)


@pytest.mark.parametrize(
    ("pooler_config", "tasks"),
    [
        (None, ("reward", "score")),
        ('{"pooling_type": "ALL"}', ("reward",)),
    ],
)
def test_what_gives_one_number_for_an_input_is_served_for_reranking(pooler_config: str | None, tasks: object) -> None:
    assert resolve_spec(FAMILIES / "bert-reranker", ModelOptions(pooler_config=pooler_config)).tasks == tasks


@pytest.mark.parametrize(("tokens", "tasks"), [([1], ("reward", "score")), ([1, 2, 3], ("reward",))])
def test_of_single_tokens_one_or_two_make_a_relevance(tokens: list[int], tasks: object) -> None:
    options = ModelOptions(pooler_config=json.dumps({"returned_token_ids": tokens}))
    assert resolve_spec(FAMILIES / "qwen3-reranker", options).tasks == tasks


def test_a_module_reads_messages_where_it_lists_them(directory: Path) -> None:
    assert resolve_spec(FAMILIES / "bert-reranker").reads_messages is None
    assert resolve_spec(directory).reads_messages is False
    modalities = {"text": {"method": "forward"}, "message": {"method": "forward"}}
    edit_json(directory / "sentence_bert_config.json", lambda config: config.update(modality_config=modalities))
    assert resolve_spec(directory).reads_messages is True
