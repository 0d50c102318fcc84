"""How a query and a document become one sequence, as Sentence Transformers' CrossEncoder makes it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from api.errors import ApiError
from api.protocol.messages import Message
from api.rendering import Renderer
from pooling.architectures import Head
from pooling.chat_template import ChatTemplate
from pooling.config import ModelSpec
from pooling.tokenizing import EncodedPair, TokenIds, Tokenizer

QWEN3_RERANKER = "Qwen3ForCausalLM"

# Word for word from the model's card.
QWEN3_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
QWEN3_PROMPT = (
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


class Pairing(Protocol):
    """One way to make sequences of a query with documents."""

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """One sequence for each document; raises a 400 where a chat template refuses a text."""


class TokenizerPairing:
    """The pairs of the tokenizer, with its special tokens between: cross encoders."""

    def __init__(self, tokenizer: Tokenizer, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """One sequence for each document; the prompt stands before the query."""
        return self._tokenizer.encode_pairs([(self._prompt + query, document) for document in documents])


class TextPairing:
    """One text made of both, tokenised as it is: rerankers that are language models."""

    def __init__(self, tokenizer: Tokenizer, text: Callable[[str, str], str]) -> None:
        self._tokenizer = tokenizer
        self._text = text

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """One sequence for each document, which lies between what two other documents have in common."""
        one, other, *sequences = self._tokenizer.encode(
            [self._text(query, document) for document in ("0", "1 2 3 4", *documents)], add_special_tokens=False
        )
        before = _common(one, other)
        after = _common(one[::-1], other[::-1])
        return [
            EncodedPair(ids, None, range(min(before, len(ids) - after), max(0, len(ids) - after))) for ids in sequences
        ]


def pairing_of(spec: ModelSpec, tokenizer: Tokenizer, template: ChatTemplate | None) -> Pairing | None:
    """The way that fits a model, or None where its files do not say how a pair becomes a sequence.

    A chat template that places the roles "query" and "document" is used where Sentence Transformers would use one;
    without a template a cross encoder takes pairs of the tokenizer. A language model without either is asked nothing:
    only Qwen3-Reranker's own prompt is known here.
    """
    prompt = spec.prompts.texts[spec.prompts.default] if spec.prompts.default else ""
    by_template = template is not None and spec.reads_messages is not False
    if template is not None and by_template:
        text = _template_text(template, prompt)
        if _carries_both(text):
            return TextPairing(tokenizer, text)
    elif spec.head is not Head.TOKENS or spec.reads_messages is not None:
        return TokenizerPairing(tokenizer, prompt)
    if _is_qwen3_reranker(spec, tokenizer):
        return TextPairing(tokenizer, _qwen3_text(prompt or QWEN3_INSTRUCTION))
    return None


def _template_text(template: ChatTemplate, prompt: str) -> Callable[[str, str], str]:
    renderer = Renderer(template, lambda content: _messages(content, content))

    def text(query: str, document: str) -> str:
        system = [{"role": "system", "content": prompt}] if prompt else []
        return renderer.render([*system, *_messages(query, document)])

    return text


def _messages(query: object, document: object) -> list[Message]:
    return [{"role": "query", "content": query}, {"role": "document", "content": document}]


def _carries_both(text: Callable[[str, str], str]) -> bool:
    """Whether query and document reach the text: templates for chats only leave out roles that they do not know."""
    try:
        base = text("alpha", "bravo")
        return base not in (text("charlie", "bravo"), text("alpha", "foxtrot"))
    except ApiError:
        return False


def _qwen3_text(instruction: str) -> Callable[[str, str], str]:
    return lambda query, document: QWEN3_PROMPT.format(instruction=instruction, query=query, document=document)


def _is_qwen3_reranker(spec: ModelSpec, tokenizer: Tokenizer) -> bool:
    """Whether a Qwen3 language model is read by its tokens "yes" and "no", in this order."""
    tokens = [tokenizer.token(token) for token in spec.pooler.returned_token_ids]
    return spec.architecture.name == QWEN3_RERANKER and tokens == ["yes", "no"]


def _common(left: TokenIds, right: TokenIds) -> int:
    """The length of the longest beginning that both have."""
    shorter = min(len(left), len(right))
    different = (left[:shorter] != right[:shorter]).nonzero()[0]
    return int(different[0]) if len(different) else shorter
