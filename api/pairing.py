"""How a query and a document become one sequence, as Sentence Transformers' CrossEncoder makes it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from api.errors import ApiError
from api.rendering import Sandbox, origin_of, rendered_once
from api.sandbox.job import Job
from pooling.architectures import Head
from pooling.chat_template import ChatTemplate
from pooling.config import ModelSpec
from pooling.tokenizing import EncodedPair, TokenIds, Tokenizer

TOGETHER = 256
"""Documents that a template's process gets at once: it renders them in some 20 ms, for which others wait."""

Texts = Callable[[str, Sequence[str], str | None], Awaitable[list[str]]]
"""Makes one text for each document with the query, and with an instruction in place of the checkpoint's own."""

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


Encode = Callable[[], list[EncodedPair]]
"""Makes one sequence for each document; for a thread, where there is much to do."""


class Pairing(Protocol):
    """One way to make sequences of a query with documents.

    Attributes:
        instructs: whether it has a place for an instruction.
    """

    instructs: bool

    async def prepared(self, query: str, documents: Sequence[str], instruction: str | None = None) -> Encode:
        """What makes the sequences; raises a 400 where a chat template refuses a text."""


class TokenizerPairing:
    """The pairs of the tokenizer, with its special tokens between: cross encoders."""

    instructs = False

    def __init__(self, tokenizer: Tokenizer, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt

    async def prepared(self, query: str, documents: Sequence[str], instruction: str | None = None) -> Encode:
        """What makes the sequences; the prompt stands before the query."""
        assert instruction is None
        return lambda: self._tokenizer.encode_pairs([(self._prompt + query, document) for document in documents])


class TextPairing:
    """One text made of both, tokenised as it is: rerankers that are language models."""

    def __init__(self, tokenizer: Tokenizer, texts: Texts, instructs: bool) -> None:
        self._tokenizer = tokenizer
        self.texts = texts
        self.instructs = instructs

    async def prepared(self, query: str, documents: Sequence[str], instruction: str | None = None) -> Encode:
        """What makes the sequences, in each of which the document lies between what two others have in common."""
        texts = await self.texts(query, ["0", "1 2 3 4", *documents], instruction)
        return lambda: self._encoded(texts)

    def _encoded(self, texts: Sequence[str]) -> list[EncodedPair]:
        one, other, *sequences = self._tokenizer.encode(texts, add_special_tokens=False)
        before = _common(one, other)
        after = _common(one[::-1], other[::-1])
        return [
            EncodedPair(ids, None, range(min(before, len(ids) - after), max(0, len(ids) - after))) for ids in sequences
        ]


def pairing_of(
    spec: ModelSpec, tokenizer: Tokenizer, template: ChatTemplate | None, sandbox: Sandbox
) -> Pairing | None:
    """The way that fits a model, or None where its files do not say how a pair becomes a sequence.

    A chat template that places the roles "query" and "document" is used where Sentence Transformers would use one;
    without a template a cross encoder takes pairs of the tokenizer. A language model without either is asked nothing:
    only Qwen3-Reranker's own prompt is known here.
    """
    prompt = spec.prompts.texts[spec.prompts.default] if spec.prompts.default else ""
    by_template = template is not None and spec.reads_messages is not False
    if template is not None and by_template:
        pairing = _template_pairing(tokenizer, template, prompt, sandbox)
        if pairing is not None:
            return pairing
    elif spec.head is not Head.TOKENS or spec.reads_messages is not None:
        return TokenizerPairing(tokenizer, prompt)
    if _is_qwen3_reranker(spec, tokenizer):
        return TextPairing(tokenizer, _qwen3_texts(prompt or QWEN3_INSTRUCTION), instructs=True)
    return None


def _template_pairing(
    tokenizer: Tokenizer, template: ChatTemplate, prompt: str, sandbox: Sandbox
) -> TextPairing | None:
    """The way of the checkpoint's template; None where it leaves out one of both, as those for chats only do.

    An instruction is what a system message says, where the template reads one.
    """

    def job(pairs: Iterable[tuple[str, str, str]]) -> Job:
        conversations = [
            [
                *([{"role": "system", "content": instruction}] if instruction else []),
                {"role": "query", "content": query},
                {"role": "document", "content": document},
            ]
            for instruction, query, document in pairs
        ]
        return Job(origin_of(template), template.special_tokens, ("query", "document"), conversations)

    async def texts(query: str, documents: Sequence[str], instruction: str | None) -> list[str]:
        found: list[str] = []
        said = prompt if instruction is None else instruction
        for begin in range(0, len(documents), TOGETHER):
            found += await sandbox.render(job((said, query, each) for each in documents[begin : begin + TOGETHER]))
        return found

    plain = ("alpha", "bravo")
    try:
        base, *others = rendered_once(
            job([(prompt, *plain), (prompt, "charlie", "bravo"), (prompt, "alpha", "foxtrot")])
        )
    except ApiError:
        return None
    if base in others:
        return None
    return TextPairing(tokenizer, texts, _reads_system(job([("golf", *plain), ("hotel", *plain)])))


def _reads_system(job: Job) -> bool:
    """Whether a template makes different texts of conversations that differ in their system messages."""
    try:
        one, other = rendered_once(job)
    except ApiError:
        return False
    return one != other


def _qwen3_texts(own: str) -> Texts:
    async def texts(query: str, documents: Sequence[str], instruction: str | None) -> list[str]:
        said = own if instruction is None else instruction
        return [QWEN3_PROMPT.format(instruction=said, query=query, document=each) for each in documents]

    return texts


def _is_qwen3_reranker(spec: ModelSpec, tokenizer: Tokenizer) -> bool:
    """Whether a Qwen3 language model is read by its tokens "yes" and "no", in this order."""
    tokens = [tokenizer.token(token) for token in spec.pooler.returned_token_ids]
    return spec.architecture.name == QWEN3_RERANKER and tokens == ["yes", "no"]


def _common(left: TokenIds, right: TokenIds) -> int:
    """The length of the longest beginning that both have."""
    shorter = min(len(left), len(right))
    different = (left[:shorter] != right[:shorter]).nonzero()[0]
    return int(different[0]) if len(different) else shorter
