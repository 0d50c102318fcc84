"""Every way to have something pooled over HTTP, as bodies of a wanted length or number of inputs.

A word is one token to every tokenizer here, so that lengths are exact.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.golden.variants import golden_of, made

WORD = "a"
ID = 5

EMBEDDER, RERANKER, LABELLER, JUDGE = "embedder", "reranker", "labeller", "judge"

LONGEST = {EMBEDDER: 64, RERANKER: 48, LABELLER: 48, JUDGE: 64}
"""The limit of each model in tokens, as the models file sets it."""

FRAME, PAIR_FRAME = 2, 3
"""Special tokens that BERT puts around a text, and around and between two."""

_TEMPLATE = {"chat_template.jinja": "{% for message in messages %}{{ message.content }}{% endfor %}"}
_CHECKPOINTS: Mapping[str, dict[str, Any]] = {
    EMBEDDER: {"from": "tiny-bert", "changes": {}, "files": _TEMPLATE},
    RERANKER: golden_of("cross-encoder"),
    LABELLER: {"from": "families/bert-classifier", "changes": {}, "files": {}},
    JUDGE: {**golden_of("chat-reward"), "files": _TEMPLATE},
}

Body = dict[str, Any]
Form = Literal["openai", "rerank", "cohere", "vllm", "tei"]


def models_file(folder: Path, *names: str) -> Path:
    """A models file that serves these models, or all, with their checkpoints beside it."""
    sections = [
        f'[models.{name}]\nmodel = "{made(_CHECKPOINTS[name], folder / name)}"\nmax_model_len = {LONGEST[name]}\n'
        for name in names or _CHECKPOINTS
    ]
    path = folder / "models.toml"
    path.write_text("".join(sections), "utf-8")
    return path


def words(count: int) -> str:
    """A text of so many tokens, special ones not counted."""
    return " ".join([WORD] * count)


def framed(tokens: int) -> str:
    """A text that BERT's tokenizer makes so many tokens of."""
    return words(tokens - FRAME)


@dataclass(frozen=True)
class Way:
    """A route with one form of its body.

    Attributes:
        name: what is sent there, to tell the ways of one route apart.
        long: a body with one sequence of so many tokens.
        many: a body with so many short inputs; None where a call has one by its nature.
        form: how it tells errors.
        field: what it calls the input that is too long.
        counted: what it calls inputs that are too many; by itself the same.
        others: tokens that a body of `long` has beside those of the one sequence.
        inputs: how many a body of `long` has.
        cutting: fields that have too long inputs cut; None where the route cuts by itself, or never.
        refusing: fields that have them refused, where the route cuts by itself.
        found: the list in a reply that has an entry for each input.
    """

    path: str
    name: str
    model: str
    long: Callable[[int], Body]
    many: Callable[[int], Body] | None
    form: Form = "openai"
    field: str = "input"
    counted: str | None = None
    others: int = 0
    inputs: int = 1
    cutting: Body | None = None
    refusing: Body | None = None
    found: Callable[[Any], Sequence[Any]] = lambda reply: reply["data"]

    def __str__(self) -> str:
        return f"{self.path} {self.name}"

    @property
    def limit(self) -> int:
        """The longest sequence, in tokens."""
        return LONGEST[self.model]


_VLLM_CUT: Body = {"truncate_prompt_tokens": -1}
_TEI_CUT: Body = {"truncate": True}
_LIST: Callable[[Any], Sequence[Any]] = lambda reply: reply  # noqa: E731
_RESULTS: Callable[[Any], Sequence[Any]] = lambda reply: reply["results"]  # noqa: E731


def _conversation(text: str) -> list[Body]:
    return [{"role": "user", "content": text}]


def _inputs(path: str, model: str, form: Form, **own: Any) -> list[Way]:
    """The shapes of `input` and `messages` that FastDeploy's and vLLM's routes share."""
    name = f" {own['task']}" if "task" in own else ""
    shapes: list[tuple[str, Callable[[int], Body], Callable[[int], Body] | None]] = [
        ("texts", lambda n: {"input": framed(n)}, lambda n: {"input": [WORD] * n}),
        ("ids", lambda n: {"input": [ID] * n}, lambda n: {"input": [[ID]] * n}),
        ("message ids", lambda n: {"messages": [ID] * n}, None),
    ]
    if model == EMBEDDER:
        shapes.append(("messages", lambda n: {"messages": _conversation(words(n))}, None))
    return [
        Way(
            path,
            f"{shape}{name}",
            model,
            lambda n, long=long: {**long(n), **own},
            many and (lambda n, many=many: {**many(n), **own}),
            form,
            "messages" if "message" in shape else "input",
            cutting=_VLLM_CUT,
        )
        for shape, long, many in shapes
    ]


def _score(path: str) -> list[Way]:
    return [
        Way(
            path,
            "a pair",
            RERANKER,
            lambda n: {"text_1": WORD, "text_2": words(n - PAIR_FRAME - 1)},
            lambda n: {"text_1": [WORD] * n, "text_2": [WORD] * n},
            "vllm",
            "text_2",
            "text_1",
            cutting=_VLLM_CUT,
        ),
        Way(
            path,
            "one with many, by likeness",
            EMBEDDER,
            lambda n: {"queries": WORD, "documents": framed(n)},
            lambda n: {"queries": WORD, "documents": [WORD] * n},
            "vllm",
            "documents",
            others=FRAME + 1,
            cutting=_VLLM_CUT,
        ),
    ]


def _documents(path: str, form: Form, **own: Any) -> list[Way]:
    """The ways of a route that takes `query` and `documents`."""
    return [
        Way(
            path,
            "documents",
            RERANKER,
            lambda n: {"query": WORD, "documents": [words(n - PAIR_FRAME - 1)]},
            lambda n: {"query": WORD, "documents": [WORD] * n},
            form,
            "documents",
            found=_RESULTS,
            **own,
        ),
        Way(
            path,
            "documents, by likeness",
            EMBEDDER,
            lambda n: {"query": WORD, "documents": [framed(n)]},
            lambda n: {"query": WORD, "documents": [WORD] * n},
            form,
            "documents",
            others=FRAME + 1,
            found=_RESULTS,
            **own,
        ),
    ]


def _texts(path: str) -> Way:
    return Way(
        path,
        "query and texts",
        RERANKER,
        lambda n: {"query": WORD, "texts": [words(n - PAIR_FRAME - 1)]},
        lambda n: {"query": WORD, "texts": [WORD] * n},
        "tei",
        "texts",
        cutting=_TEI_CUT,
        found=_LIST,
    )


def _embed(path: str) -> list[Way]:
    shared: Body = {"form": "tei", "field": "inputs", "cutting": _TEI_CUT, "found": _LIST}
    return [
        Way(path, "texts", EMBEDDER, lambda n: {"inputs": framed(n)}, lambda n: {"inputs": [WORD] * n}, **shared),
        Way(path, "ids", EMBEDDER, lambda n: {"inputs": [ID] * n}, lambda n: {"inputs": [[ID]] * n}, **shared),
        Way(
            path,
            "texts and ids",
            EMBEDDER,
            lambda n: {"inputs": [framed(n), [ID]]},
            lambda n: {"inputs": [WORD, *[[ID]] * (n - 1)]},
            others=1,
            inputs=2,
            **shared,
        ),
    ]


def _predict(path: str) -> list[Way]:
    shared: Body = {"form": "tei", "field": "inputs", "cutting": _TEI_CUT, "found": _LIST}
    return [
        Way(path, "texts", LABELLER, lambda n: {"inputs": [[framed(n)]]}, lambda n: {"inputs": [[WORD]] * n}, **shared),
        Way(
            path,
            "pairs",
            LABELLER,
            lambda n: {"inputs": [[WORD, words(n - PAIR_FRAME - 1)]]},
            lambda n: {"inputs": [[WORD, WORD]] * n},
            **shared,
        ),
    ]


def _similarity(path: str) -> Way:
    return Way(
        path,
        "sentences",
        EMBEDDER,
        lambda n: {"inputs": {"source_sentence": WORD, "sentences": [framed(n)]}},
        lambda n: {"inputs": {"source_sentence": WORD, "sentences": [WORD] * n}},
        "tei",
        "sentences",
        others=FRAME + 1,
        cutting={"parameters": _TEI_CUT},
        found=_LIST,
    )


def _cohere_embed() -> list[Way]:
    shared: Body = {
        "form": "cohere",
        "refusing": {"truncate": "NONE"},
        "found": lambda reply: reply["embeddings"]["float"],
    }

    def parts(text: str) -> Body:
        return {"content": [{"type": "text", "text": text}]}

    return [
        Way(
            "/v2/embed",
            "texts",
            EMBEDDER,
            lambda n: {"texts": [framed(n)]},
            lambda n: {"texts": [WORD] * n},
            field="texts",
            **shared,
        ),
        Way(
            "/v2/embed",
            "parts",
            EMBEDDER,
            lambda n: {"inputs": [parts(framed(n))]},
            lambda n: {"inputs": [parts(WORD)] * n},
            field="inputs",
            **shared,
        ),
    ]


def _rewards() -> list[Way]:
    return [
        Way(
            "/v1/chat/reward",
            "messages",
            JUDGE,
            lambda n: {"messages": _conversation(words(n))},
            None,
            field="messages",
            cutting=_VLLM_CUT,
        ),
        Way(
            "/v1/chat/reward",
            "message ids",
            JUDGE,
            lambda n: {"messages": [ID] * n},
            None,
            field="messages",
            cutting=_VLLM_CUT,
        ),
        Way(
            "/get_reward",
            "queries",
            JUDGE,
            lambda n: {"query": [words(n)]},
            lambda n: {"query": [WORD] * n},
            field="query",
            refusing={"truncate": False},
            found=lambda reply: reply["rewards"],
        ),
    ]


def _whatever(path: str) -> list[Way]:
    """The ways of a route that finds out by the body what is wanted."""
    return [*_embed(path)[:1], *_predict(path)[:1], _texts(path), _similarity(path)]


WAYS: Sequence[Way] = (
    *_inputs("/v1/embeddings", EMBEDDER, "openai"),
    *_inputs("/embeddings", EMBEDDER, "openai"),
    *_rewards(),
    *_documents("/v1/rerank", "rerank", cutting=_VLLM_CUT),
    *_documents("/rerank", "rerank", cutting=_VLLM_CUT),
    *_documents("/v2/rerank", "cohere"),
    *_cohere_embed(),
    *_inputs("/pooling", EMBEDDER, "vllm", task="embed"),
    *_inputs("/pooling", EMBEDDER, "vllm", task="token_embed"),
    *_inputs("/pooling", LABELLER, "vllm", task="classify"),
    *_inputs("/pooling", LABELLER, "vllm", task="token_classify"),
    *_inputs("/classify", LABELLER, "vllm"),
    *_score("/score"),
    *_score("/v1/score"),
    *_embed("/embed"),
    *_embed("/embed_all"),
    *_predict("/predict"),
    _texts("/rerank"),
    _similarity("/similarity"),
    *_whatever("/"),
    *_whatever("/invocations"),
)

NOT_POOLING = {
    "/ping",
    "/tokenize",
    "/detokenize",
    "/decode",
    "/embed_sparse",
    "/v1/rows",
    "/v1/jobs",
    "/v1/jobs/{job_id}/cancel",
    "/v1/files",
    "/v1/batches",
    "/v1/batches/{batch_id}/cancel",
}
"""The routes with a body, or none, that bring nothing to a model themselves; /v1/rows does, each row for itself."""
