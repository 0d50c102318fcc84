"""What is wrong in a large request is found, and told, without a pause for everyone else."""

import time

import pytest

from api.errors import LONGEST_MESSAGE, ApiError, bad_request
from api.protocol.cohere import EmbedRequest
from api.protocol.common import WireRequest
from api.protocol.messages import MAX_MESSAGES, parse_messages
from api.protocol.openai import EmbeddingRequest
from api.protocol.reranking import RerankRequest

MANY = 300_000


@pytest.mark.parametrize(
    ("request_type", "field", "body"),
    [
        (EmbedRequest, "embedding_types", {"texts": ["a"], "embedding_types": ["x"] * MANY}),
        (EmbeddingRequest, "embedding_type", {"input": "a", "embedding_type": ["x"] * MANY}),
        (RerankRequest, "rank_fields", {"query": "a", "documents": ["a"], "rank_fields": [1] * MANY}),
    ],
)
def test_a_list_with_a_great_many_wrong_entries_is_refused_at_the_first(
    request_type: type[WireRequest], field: str, body: dict[str, object]
) -> None:
    began = time.perf_counter()
    with pytest.raises(ApiError) as caught:
        request_type.parse(body)
    # Five seconds when each entry gets an error of its own.
    assert time.perf_counter() - began < 1
    assert (caught.value.status, caught.value.param) == (400, field)


def test_messages_are_counted_with_their_parts_before_they_are_read() -> None:
    part = {"type": "text", "text": "water"}
    parts = [{"role": "user", "content": [part] * (MAX_MESSAGES - 1)}]
    parse_messages(parts, 100)
    for wrong in ([*parts, {"role": "user", "content": "water"}], [{"role": "user", "content": "a"}] * 10_000):
        with pytest.raises(ApiError, match=f"over the {MAX_MESSAGES} of one call") as caught:
            parse_messages(wrong, 100)
        assert caught.value.code == "too_many_inputs"


def test_an_error_repeats_the_beginning_of_a_very_long_value_and_keeps_the_remedy() -> None:
    error = bad_request(f"task is {'x' * 1_000_000}: leave it out.", "task")
    assert len(error.message) < LONGEST_MESSAGE + 10
    assert error.message.startswith("task is xxx")
    assert error.message.endswith("xxx: leave it out.")
