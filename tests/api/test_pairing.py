"""How a query and a document become one sequence follows what the checkpoint's files say."""

from dataclasses import replace
from pathlib import Path

import pytest

from api.pairing import QWEN3_PROMPT, Pairing, TextPairing, TokenizerPairing, pairing_of
from pooling.chat_template import ChatTemplate
from pooling.config import ModelOptions, ModelSpec, resolve_spec
from pooling.sentence_transformers import Prompts
from pooling.tokenizing import Tokenizer
from tests.server import GOLDEN

FAMILIES = GOLDEN / "families"
YES_NO = '{"returned_token_ids": [1, 2]}'

PAIRED = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"
CHAT = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
ONE_SIDED = "{% for m in messages if m.role == 'query' %}{{ m.content }}{% endfor %}"


def spec_of(name: str, pooler_config: str | None = None) -> ModelSpec:
    return resolve_spec(FAMILIES / name, ModelOptions(pooler_config=pooler_config))


def pairing(spec: ModelSpec, source: str | None = None) -> Pairing | None:
    template = None if source is None else ChatTemplate(source, {}, Path("chat_template.jinja"))
    return pairing_of(spec, Tokenizer.from_spec(spec), template)


def texts(spec: ModelSpec, made: Pairing | None, *pair: str) -> str:
    assert isinstance(made, TextPairing)
    return made._text(*pair)


def test_a_cross_encoder_without_a_template_takes_pairs_of_its_tokenizer() -> None:
    assert isinstance(pairing(spec_of("bert-reranker")), TokenizerPairing)
    assert isinstance(pairing(spec_of("llama-classifier")), TokenizerPairing)


def test_its_default_prompt_stands_before_the_query() -> None:
    spec = replace(spec_of("bert-reranker"), prompts=Prompts({"query": "the "}, "query"))
    made, plain = pairing(spec), pairing(spec_of("bert-reranker"))
    assert made is not None
    assert plain is not None
    assert made.encode("mill", ["water"])[0].ids.tolist() == plain.encode("the mill", ["water"])[0].ids.tolist()


def test_a_template_with_both_roles_is_used_with_the_default_prompt_as_instruction() -> None:
    spec = spec_of("llama-classifier")
    assert texts(spec, pairing(spec, PAIRED), "a", "b") == "query=a;document=b;"
    spec = replace(spec, prompts=Prompts({"q": "judge"}, "q"))
    assert texts(spec, pairing(spec, PAIRED), "a", "b") == "system=judge;query=a;document=b;"


@pytest.mark.parametrize("source", [CHAT, ONE_SIDED, "{{ raise_exception('no') }}", "{% if %}"])
def test_a_template_that_loses_one_of_them_is_not_used(source: str) -> None:
    assert pairing(spec_of("llama-classifier"), source) is None


def test_a_template_that_sentence_transformers_would_not_use_is_not_used() -> None:
    spec = replace(spec_of("llama-classifier"), reads_messages=False)
    assert isinstance(pairing(spec, PAIRED), TokenizerPairing)
    assert isinstance(pairing(replace(spec, reads_messages=True), PAIRED), TextPairing)


def test_only_qwen3_reranker_is_asked_in_its_own_words() -> None:
    spec = spec_of("qwen3-reranker", YES_NO)
    wanted = QWEN3_PROMPT.format(
        instruction="Given a web search query, retrieve relevant passages that answer the query",
        query="a {document}",
        document="b {x}",
    )
    assert texts(spec, pairing(spec), "a {document}", "b {x}") == wanted
    assert texts(spec, pairing(spec, CHAT), "a {document}", "b {x}") == wanted
    instructed = replace(spec, prompts=Prompts({"q": "judge"}, "q"))
    assert "<Instruct>: judge\n" in texts(instructed, pairing(instructed), "a", "b")
    assert pairing(spec_of("qwen3-reranker", '{"returned_token_ids": [2, 1]}')) is None
    assert pairing(spec_of("math-shepherd", '{"returned_token_ids": [4, 5]}')) is None


def test_a_text_is_cut_where_the_document_ends() -> None:
    spec = spec_of("qwen3-reranker", YES_NO)
    source = "{{ messages[0].content }}<|endoftext|>{{ messages[1].content }}<|endoftext|>{{ messages[0].content }}"
    made = pairing(spec, source)
    assert made is not None
    (pair,) = made.encode("the mill", ["water water water"])
    tokenizer = Tokenizer.from_spec(spec)
    short = tokenizer.encode(["the mill<|endoftext|>water water<|endoftext|>the mill"], add_special_tokens=False)[0]
    assert pair.cut(len(short)).ids.tolist() == short.tolist()
