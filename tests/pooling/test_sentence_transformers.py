"""Sentence Transformers' files are read as it reads them itself, in its old form and in that of version 6."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pooling.config import resolve_spec
from pooling.errors import CheckpointError
from pooling.pooler_config import Activation, PoolingType
from tests.pooling.checkpoints import copied, edit_json
from tests.pooling.conftest import GOLDEN, TINY_BERT

FAMILIES = GOLDEN / "families"
PROMPTS_FILE = "config_sentence_transformers.json"


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(TINY_BERT, tmp_path / "model")


def test_a_model_that_version_6_saved_is_read(directory: Path) -> None:
    types = [
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.base.modules.normalize.Normalize",
    ]
    paths = ["", "1_Pooling", "2_Normalize"]
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": name}
        for number, (path, name) in enumerate(zip(paths, types, strict=True))
    ]
    write(directory / "modules.json", entries)
    write(
        directory / "1_Pooling" / "config.json",
        {"embedding_dimension": 48, "pooling_mode": "cls", "include_prompt": True},
    )
    write(
        directory / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    )
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(model_max_length=60))
    spec = resolve_spec(directory)
    assert (spec.pooler.pooling_type, spec.pooler.normalize) == (PoolingType.CLS, True)
    assert (spec.max_model_len, spec.origins["max_model_len"]) == (60, "tokenizer_config.json")


@pytest.mark.parametrize("kind", ["custom_st.Transformer", "Transformer", "sentence_transformers.models.CLIPModel"])
def test_a_module_of_the_checkpoints_own_code_is_refused_by_its_name(directory: Path, kind: str) -> None:
    edit_json(directory / "modules.json", lambda modules: modules[0].update(type=kind))
    with pytest.raises(CheckpointError, match=rf"modules\.json has {kind} in place 0"):
        resolve_spec(directory)


def test_only_one_pooling_is_taken(directory: Path) -> None:
    edit_json(directory / "modules.json", lambda modules: modules.insert(1, dict(modules[1])))
    with pytest.raises(CheckpointError, match="Pooling in place 2"):
        resolve_spec(directory)


@pytest.mark.parametrize(
    ("file", "content", "limit"),
    [
        ("sentence_bert_config.json", {"max_seq_length": None, "do_lower_case": False}, 72),
        ("sentence_bert_config.json", {"max_seq_length": 50}, 50),
        ("sentence_roberta_config.json", {"max_seq_length": 50, "do_lower_case": True}, 50),
        ("sentence_bert_config.json", {"max_seq_length": 50, "tokenizer_args": {"model_max_length": 40}}, 40),
        ("sentence_bert_config.json", {"processor_kwargs": {"model_max_length": 40, "padding_side": "left"}}, 40),
        ("sentence_bert_config.json", {"processor_kwargs": {"padding_side": "left"}}, 72),
    ],
)
def test_the_longest_sequence_is_found_under_all_its_names(
    directory: Path, file: str, content: dict[str, object], limit: int
) -> None:
    (directory / "sentence_bert_config.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    write(directory / file, content)
    spec = resolve_spec(directory)
    assert spec.max_model_len == limit
    assert spec.origins["max_model_len"] == ("config.json" if limit == 72 else file)
    assert spec.lowercase is content.get("do_lower_case", False)


@pytest.mark.parametrize(
    ("content", "names", "default"),
    [
        ({"prompts": {}, "default_prompt_name": None}, [], None),
        ({"__version__": {}}, [], None),
        ({"prompts": {"query": "", "document": None}}, ["query", "document"], None),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "query"}, ["query"], "query"),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "document"}, ["query", "document"], "document"),
    ],
)
def test_prompts_are_read_with_their_default(
    directory: Path, content: dict[str, object], names: list[str], default: str | None
) -> None:
    write(directory / PROMPTS_FILE, content)
    prompts = resolve_spec(directory).prompts
    assert list(prompts.texts) == names
    assert prompts.default == default
    assert all(isinstance(text, str) for text in prompts.texts.values())


def test_a_default_prompt_that_does_not_exist_is_refused(directory: Path) -> None:
    write(directory / PROMPTS_FILE, {"prompts": {"query": "q: "}, "default_prompt_name": "passage"})
    with pytest.raises(CheckpointError, match=r"default_prompt_name = 'passage', which is none of its prompts"):
        resolve_spec(directory)


def test_embeddings_are_cut_where_the_model_says_so_and_whole_for_those_who_ask(directory: Path) -> None:
    write(directory / PROMPTS_FILE, {"truncate_dim": 20})
    spec = resolve_spec(directory)
    assert (spec.embedding_dimensions, spec.supported_dimensions) == (20, (20, 48))
    assert spec.origins["dimensions"] == PROMPTS_FILE
    write(directory / PROMPTS_FILE, {"truncate_dim": 100})
    assert resolve_spec(directory).embedding_dimensions == 48


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return copied(FAMILIES / "bert-classifier", tmp_path / "classifier")


SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("saved", "config", "activation", "origin"),
    [
        ({}, {}, Activation.NONE, "rewards are raw"),
        ({"activation_fn": SIGMOID}, {}, Activation.SIGMOID, PROMPTS_FILE),
        ({}, {"sentence_transformers": {"activation_fn": SIGMOID}}, Activation.SIGMOID, "config.json"),
        ({}, {"sbert_ce_default_activation_function": SIGMOID}, Activation.SIGMOID, "config.json"),
        ({}, {"sentence_transformers": {"version": "4.1.0"}}, Activation.NONE, "rewards are raw"),
        (
            {"activation_fn": SIGMOID},
            {"sentence_transformers": {"activation_fn": IDENTITY}},
            Activation.SIGMOID,
            PROMPTS_FILE,
        ),
        (
            {},
            {"sentence_transformers": {"activation_fn": IDENTITY}, "sbert_ce_default_activation_function": SIGMOID},
            Activation.NONE,
            "config.json",
        ),
    ],
)
def test_a_cross_encoders_activation_is_found_where_each_version_put_it(
    classifier: Path, saved: dict[str, str], config: dict[str, object], activation: Activation, origin: str
) -> None:
    module = "sentence_transformers.base.modules.transformer.Transformer"
    write(classifier / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": module}])
    write(classifier / PROMPTS_FILE, {"model_type": "CrossEncoder", "prompts": {}, **saved})
    edit_json(classifier / "config.json", lambda whole: whole.update(config))
    spec = resolve_spec(classifier)
    assert (spec.pooler.activation, spec.origins["pooler.activation"]) == (activation, origin)
    assert spec.pooler.pooling_type is PoolingType.CLS


def test_a_cross_encoders_own_activation_is_refused(classifier: Path) -> None:
    write(classifier / PROMPTS_FILE, {"activation_fn": "custom.Sigmoid"})
    with pytest.raises(CheckpointError, match=rf"{PROMPTS_FILE} has activation_fn = 'custom\.Sigmoid'"):
        resolve_spec(classifier)


@pytest.mark.parametrize(
    ("tokens", "returned"),
    [({"true_token_id": 7, "false_token_id": 3}, (7, 3)), ({"true_token_id": 7, "false_token_id": None}, (7,))],
)
def test_a_reranker_that_reads_tokens_is_found_by_its_logit_score(
    tmp_path: Path, tokens: dict[str, object], returned: tuple[int, ...]
) -> None:
    directory = copied(FAMILIES / "qwen3", tmp_path / "reranker")
    types = {
        "": "sentence_transformers.base.modules.transformer.Transformer",
        "1_LogitScore": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
    }
    write(directory / "modules.json", [{"path": path, "type": name} for path, name in types.items()])
    edit_json(directory / "config.json", lambda config: config.update(architectures=["Qwen3ForCausalLM"]))
    write(directory / "1_LogitScore" / "config.json", {**tokens, "module_input_name": "causal_logits"})
    spec = resolve_spec(directory)
    assert (spec.pooler.returned_token_ids, spec.tasks) == (returned, ("reward", "score"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(use_residual=True), "use_residual = True"),
        (lambda config: config.update(module_input_name="token_embeddings"), "module_input_name = 'token_embeddings'"),
        (lambda config: config.update(module_output_name="scores"), "module_output_name = 'scores'"),
        (lambda config: config.update(activation_function="mine.Tanh"), r"activation_function = 'mine\.Tanh'"),
        (lambda config: config.update(in_features=35), "in_features = 35, but what comes in is 36 wide"),
    ],
)
def test_a_dense_module_of_another_kind_is_refused(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    directory = copied(FAMILIES / "embedding-gemma", tmp_path / "dense")
    edit_json(directory / "2_Dense" / "config.json", change)
    with pytest.raises(CheckpointError, match=rf"2_Dense/config\.json has {message}"):
        resolve_spec(directory)


def test_without_an_activation_a_dense_module_has_the_default_one(tmp_path: Path) -> None:
    directory = copied(FAMILIES / "embedding-gemma", tmp_path / "dense")
    edit_json(directory / "2_Dense" / "config.json", lambda config: config.pop("activation_function"))
    assert [dense.activation for dense in resolve_spec(directory).dense] == ["Tanh", "Identity"]
