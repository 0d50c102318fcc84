"""Which model a name means, and to whom."""

from types import SimpleNamespace
from typing import cast

import pytest

from api.callers import ANONYMOUS, Caller
from api.errors import ApiError
from api.serving import Models, ServedModel


def model(*names: str) -> ServedModel:
    return cast("ServedModel", SimpleNamespace(name=names[0], names=names))


MODELS = Models([model("embedder", "text-embedding-3-small"), model("judge")])
OF_JUDGE = Caller("trainer", models=frozenset({"judge"}))


@pytest.mark.parametrize("name", [None, "", "default"])
def test_no_name_means_the_first_model_that_the_key_is_for(name: str | None) -> None:
    assert MODELS.find(name, ANONYMOUS).name == "embedder"
    assert MODELS.find(name, OF_JUDGE).name == "judge"
    with pytest.raises(ApiError) as caught:
        MODELS.find(name, Caller("of another", models=frozenset({"another"})))
    assert caught.value.code == "model_not_allowed"


@pytest.mark.parametrize("allowed", ["embedder", "text-embedding-3-small"])
def test_a_key_for_one_of_a_models_names_may_use_them_all(allowed: str) -> None:
    caller = Caller("writer", models=frozenset({allowed}))
    for name in ("embedder", "text-embedding-3-small", None):
        assert MODELS.find(name, caller).name == "embedder"
    with pytest.raises(ApiError, match="may not use the model 'judge': its models are") as caught:
        MODELS.find("judge", caller)
    assert caught.value.status == 403


def test_a_name_that_is_not_served_is_answered_with_those_that_the_key_may_use() -> None:
    for caller, known in (
        (ANONYMOUS, "served is 'embedder', 'text-embedding-3-small', 'judge' "),
        (OF_JUDGE, "served is 'judge' "),
        (Caller("of another", models=frozenset({"another"})), "served is none for this key "),
    ):
        with pytest.raises(ApiError, match=known) as caught:
            MODELS.find("gpt", caller)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        assert ("embedder" in caught.value.message) == (caller is ANONYMOUS)
