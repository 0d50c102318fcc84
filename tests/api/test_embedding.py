"""What is refused of embeddings before anything is computed."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from api.embedding import MAX_TOKEN_NUMBERS, check_token_numbers
from api.errors import ApiError
from api.sequences import Sequences
from api.serving import ServedModel

MODEL = cast("ServedModel", SimpleNamespace(spec=SimpleNamespace(embedding_dimensions=1024)))


def test_a_vector_for_each_of_too_many_tokens_is_refused_with_the_number_that_is_not() -> None:
    most = MAX_TOKEN_NUMBERS // 1024
    check_token_numbers(MODEL, Sequences("inputs", [np.zeros(most, np.int32)]), "inputs")
    more = Sequences("inputs", [np.zeros(most, np.int32), np.zeros(1, np.int32)])
    with pytest.raises(ApiError, match=f"send at most {most} tokens at once") as caught:
        check_token_numbers(MODEL, more, "inputs")
    assert (caught.value.status, caught.value.param) == (400, "inputs")
    check_token_numbers(MODEL, more, "inputs", dimensions=512)
