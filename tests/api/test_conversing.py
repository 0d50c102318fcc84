"""What a template has written is not written again by the tokenizer."""

import pytest

from pooling.config import resolve_spec
from pooling.model_options import ModelOptions
from pooling.tokenizing import Tokenizer
from tests.server import GOLDEN


@pytest.mark.parametrize(
    ("checkpoint", "begin", "end"),
    [
        ("llama-classifier", "<|begin|>", ""),
        ("mistral-classifier", "<s>", ""),
        ("gemma3-classifier", "<bos>", ""),
        ("bert-classifier", "[CLS]", "[SEP]"),
    ],
)
def test_a_text_that_begins_with_the_tokens_that_begin_a_text_gets_no_second_ones(
    checkpoint: str, begin: str, end: str
) -> None:
    tokenizer = Tokenizer.from_spec(resolve_spec(GOLDEN / "families" / checkpoint, ModelOptions()))
    written = begin + "the mill"
    (once,) = tokenizer.encode([written + end], add_special_tokens=False)
    assert tokenizer.encode_rendered([written], add_special_tokens=True)[0].tolist() == once.tolist()
    assert tokenizer.encode_rendered([written + end], add_special_tokens=False)[0].tolist() == once.tolist()
    # Without any the tokenizer's own are put, as around every text.
    (framed,) = tokenizer.encode(["the mill"])
    assert tokenizer.encode_rendered(["the mill"], add_special_tokens=True)[0].tolist() == framed.tolist()
