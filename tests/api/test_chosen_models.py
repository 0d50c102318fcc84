"""Which models a command serves, from its flags or from a models file, and what is said of a wrong one."""

from pathlib import Path

import pytest

from api.arguments import parse
from api.chosen_models import ChosenModel, chosen_models
from api.errors import LaunchError


def chosen(*arguments: str) -> tuple[ChosenModel, ...]:
    return chosen_models(parse("serve", arguments, {}))


def of_file(tmp_path: Path, text: str, *arguments: str) -> tuple[ChosenModel, ...]:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return chosen("--models-file", str(path), *arguments)


def test_without_a_word_the_default_model_is_served_by_its_hub_id() -> None:
    (model,) = chosen()
    assert model.name == model.options.model == model.options.served_model_name
    assert model.name == "sentence-transformers/all-MiniLM-L6-v2"


def test_names_belong_to_the_models_in_order_and_the_rest_are_called_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    models = chosen("--model", "org/a", "--model", str(tmp_path / "tiny"), "--served-model-name", "first")
    assert [model.name for model in models] == ["first", "tiny"]
    assert [model.options.model for model in models] == ["org/a", str(tmp_path / "tiny")]


def test_further_names_of_one_model_are_aliases() -> None:
    (model,) = chosen("--model", "org/a", "--served-model-name", "a", "--served-model-name", "b")
    assert (model.name, model.aliases) == ("a", ("b",))


def test_one_model_by_its_variable() -> None:
    (model,) = chosen_models(parse("api", [], {"MILLPOND_MODEL": "org/a,b", "MILLPOND_SERVED_MODEL_NAME": "x"}))
    assert (model.name, model.options.model) == ("x", "org/a,b")


def test_each_section_of_a_file_has_its_own_options_and_the_flags_are_for_all(tmp_path: Path) -> None:
    models = of_file(
        tmp_path,
        '[models.a]\nmodel = "org/a"\nworkers = 2\naliases = ["other"]\n'
        '[models."b/c"]\nmodel = "org/b"\nmax_model_len = 9\npooler_config = {pooling_type = "CLS"}\n',
        "--max-num-seqs",
        "7",
        "--workers",
        "3",
    )
    first, second = models
    assert (first.name, first.aliases, first.options.workers, first.options.max_num_seqs) == ("a", ("other",), 2, 7)
    assert (second.name, second.options.workers, second.options.max_model_len) == ("b/c", 3, 9)
    assert second.options.pooler_config == '{"pooling_type": "CLS"}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold sections"),
        ("x = 1", "must hold sections"),
        ("[models", "is not TOML"),
        ("[models]\na = 1", r"\[models.a\] is not a section"),
        ("[models.a]", "has no model"),
        ('[models.a]\nmodel = "x"\nmax_model_length = 9', "did you mean max_model_len"),
        ('[models.a]\nmodel = "x"\nport = 9', "give it as --port"),
        ('[models.a]\nmodel = "x"\nmax_model_len = "x"', r"\[models.a\]: --max-model-len cannot be 'x'"),
        ('[models.a]\nmodel = "x"\nmax_num_seqs = true', "no option of a model is a switch"),
        ('[models.a]\nmodel = "x"\n[models.a.b]\nmodel = "y"', "put a name with a dot into quotes"),
        ('[models.a]\nmodel = ""', "--model cannot be ''"),
        ('[models.a]\nmodel = "x"\naliases = "b"', "must be a list"),
        ('[models.a]\nmodel = "x"\nserved_model_name = "b"', "is called 'a' by its section"),
        ('[models.a]\nmodel = "x"\n[models.b]\nmodel = "x"\naliases = ["a"]', "Two models are called 'a'"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(LaunchError, match=words):
        of_file(tmp_path, text)


def test_a_file_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="put all into the file"):
        of_file(tmp_path, '[models.a]\nmodel = "x"', "--model", "y")
    with pytest.raises(LaunchError, match="cannot be read"):
        chosen("--models-file", str(tmp_path / "none.toml"))


def test_a_flag_wins_over_the_environment_and_there_the_file_says_more(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.a]\nmodel = "x"')
    both = {"MILLPOND_MODEL": "y", "MILLPOND_SERVED_MODEL_NAME": "b", "MILLPOND_MODELS_FILE": str(path)}
    assert [model.name for model in chosen_models(parse("api", [], both))] == ["a"]
    assert [model.name for model in chosen_models(parse("api", ["--model", "z"], both))] == ["b"]
    one = {"MILLPOND_MODEL": "y"}
    assert [model.name for model in chosen_models(parse("api", ["--models-file", str(path)], one))] == ["a"]


def test_names_that_do_not_go_with_the_models_are_refused() -> None:
    with pytest.raises(LaunchError, match="Two models are called 'x'"):
        chosen("--model", "x", "--model", "y", "--served-model-name", "x", "--served-model-name", "x")
    with pytest.raises(LaunchError, match="3 --served-model-name for 2 --model"):
        names = [part for name in "abc" for part in ("--served-model-name", name)]
        chosen("--model", "x", "--model", "y", *names)
