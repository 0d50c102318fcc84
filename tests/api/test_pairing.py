"""How a query and a document become one sequence follows what the checkpoint's files say."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from api.pairing import QWEN3_PROMPT, TOGETHER, Pairing, TextPairing, TokenizerPairing, pairing_of
from api.rendering import Sandbox
from pooling.chat_template import ChatTemplate
from pooling.config import ModelSpec, resolve_spec
from pooling.model_options import ModelOptions
from pooling.sentence_transformers import Prompts
from pooling.tokenizing import EncodedPair, Tokenizer
from tests.server import GOLDEN

FAMILIES = GOLDEN / "families"
YES_NO = '{"returned_token_ids": [1, 2]}'

PAIRED = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"
CHAT = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
ONE_SIDED = "{% for m in messages if m.role == 'query' %}{{ m.content }}{% endfor %}"


def spec_of(name: str, pooler_config: str | None = None) -> ModelSpec:
    return resolve_spec(FAMILIES / name, ModelOptions(pooler_config=pooler_config))


class Pairings:
    """Ways to pair, and what they make: waits for both."""

    def __init__(self, runner: asyncio.Runner, sandbox: Sandbox) -> None:
        self._runner = runner
        self._sandbox = sandbox

    def of(self, spec: ModelSpec, source: str | None = None) -> Pairing | None:
        template = None if source is None else ChatTemplate(source, {}, Path("chat_template.jinja"))
        return pairing_of(spec, Tokenizer.from_spec(spec), template, self._sandbox)

    def text(self, made: Pairing | None, query: str, document: str) -> str:
        assert isinstance(made, TextPairing)
        (text,) = self._runner.run(made.texts(query, [document], None))
        return text

    def encoded(self, made: Pairing | None, query: str, documents: list[str]) -> list[EncodedPair]:
        assert made is not None
        return self._runner.run(made.prepared(query, documents))()


@pytest.fixture
def pairings(runner: asyncio.Runner, sandbox: Sandbox) -> Pairings:
    return Pairings(runner, sandbox)


def test_a_cross_encoder_without_a_template_takes_pairs_of_its_tokenizer(pairings: Pairings) -> None:
    assert isinstance(pairings.of(spec_of("bert-reranker")), TokenizerPairing)
    assert isinstance(pairings.of(spec_of("llama-classifier")), TokenizerPairing)


def test_its_default_prompt_stands_before_the_query(pairings: Pairings) -> None:
    spec = replace(spec_of("bert-reranker"), prompts=Prompts({"query": "the "}, "query"))
    made, plain = pairings.of(spec), pairings.of(spec_of("bert-reranker"))
    (pair,), (wanted,) = pairings.encoded(made, "mill", ["water"]), pairings.encoded(plain, "the mill", ["water"])
    assert pair.ids.tolist() == wanted.ids.tolist()


def test_a_template_with_both_roles_is_used_with_the_default_prompt_as_instruction(pairings: Pairings) -> None:
    spec = spec_of("llama-classifier")
    assert pairings.text(pairings.of(spec, PAIRED), "a", "b") == "query=a;document=b;"
    spec = replace(spec, prompts=Prompts({"q": "judge"}, "q"))
    assert pairings.text(pairings.of(spec, PAIRED), "a", "b") == "system=judge;query=a;document=b;"


@pytest.mark.parametrize("source", [CHAT, ONE_SIDED, "{{ raise_exception('no') }}", "{% if %}"])
def test_a_template_that_loses_one_of_them_is_not_used(pairings: Pairings, source: str) -> None:
    assert pairings.of(spec_of("llama-classifier"), source) is None


def test_a_template_that_sentence_transformers_would_not_use_is_not_used(pairings: Pairings) -> None:
    spec = replace(spec_of("llama-classifier"), reads_messages=False)
    assert isinstance(pairings.of(spec, PAIRED), TokenizerPairing)
    assert isinstance(pairings.of(replace(spec, reads_messages=True), PAIRED), TextPairing)


def test_only_qwen3_reranker_is_asked_in_its_own_words(pairings: Pairings) -> None:
    spec = spec_of("qwen3-reranker", YES_NO)
    wanted = QWEN3_PROMPT.format(
        instruction="Given a web search query, retrieve relevant passages that answer the query",
        query="a {document}",
        document="b {x}",
    )
    assert pairings.text(pairings.of(spec), "a {document}", "b {x}") == wanted
    assert pairings.text(pairings.of(spec, CHAT), "a {document}", "b {x}") == wanted
    instructed = replace(spec, prompts=Prompts({"q": "judge"}, "q"))
    assert "<Instruct>: judge\n" in pairings.text(pairings.of(instructed), "a", "b")
    assert pairings.of(spec_of("qwen3-reranker", '{"returned_token_ids": [2, 1]}')) is None
    assert pairings.of(spec_of("math-shepherd", '{"returned_token_ids": [4, 5]}')) is None


def test_a_text_is_cut_where_the_document_ends(pairings: Pairings) -> None:
    spec = spec_of("qwen3-reranker", YES_NO)
    source = "{{ messages[0].content }}<|endoftext|>{{ messages[1].content }}<|endoftext|>{{ messages[0].content }}"
    (pair,) = pairings.encoded(pairings.of(spec, source), "the mill", ["water water water"])
    tokenizer = Tokenizer.from_spec(spec)
    short = tokenizer.encode(["the mill<|endoftext|>water water<|endoftext|>the mill"], add_special_tokens=False)[0]
    assert pair.cut(len(short)).ids.tolist() == short.tolist()


def test_a_template_is_asked_for_many_documents_at_once_and_in_their_order(pairings: Pairings) -> None:
    made = pairings.of(spec_of("llama-classifier"), PAIRED)
    assert isinstance(made, TextPairing)
    documents = [str(number) for number in range(2 * TOGETHER + 1)]
    found = pairings.encoded(made, "a", documents)
    assert len(found) == len(documents)
    for place in (0, TOGETHER, 2 * TOGETHER):
        (alone,) = pairings.encoded(made, "a", [documents[place]])
        assert found[place].ids.tolist() == alone.ids.tolist()
