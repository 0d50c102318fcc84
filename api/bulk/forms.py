"""The shapes of records: which columns each needs, and what requests it makes of them.

`FORMS` is the order of precedence: where several fit a row, the first is meant.
docs/shapes.md shows an example of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.bulk import results
from api.bulk.results import Result
from api.bulk.rows import RowError
from api.bulk.values import (
    answer_of,
    conversation_of,
    is_conversation,
    is_transcript,
    text_of,
    texts_of,
    transcript_of,
    turns_before,
    unfolded,
    value_at,
)

Request = dict[str, Any]
"""A row of `POST /v1/rows`."""

Names = dict[str, tuple[str, ...]]
"""Of each role the columns that have it without being asked: the first is its own name, the others are aliases."""


@dataclass(frozen=True)
class Cells:
    """The values of a row by role.

    Attributes:
        columns: of each role its column.
        step_tag: what stands behind each step of a solution.
    """

    values: Mapping[str, Any]
    columns: Mapping[str, str]
    step_tag: str | None = None

    def __getitem__(self, role: str) -> Any:
        """Of a role that the form needs; RowError where the row lacks the column."""
        try:
            return value_at(self.values, self.columns[role])
        except KeyError:
            raise RowError(self.columns[role], "is missing") from None

    def get(self, role: str) -> Any:
        """Of a role that the form may have; None where it has not."""
        try:
            return value_at(self.values, self.columns[role])
        except KeyError:
            return None

    def text(self, role: str) -> str:
        """A string."""
        return text_of(self[role], self.columns[role])

    def texts(self, role: str) -> list[str]:
        """A list of strings."""
        return texts_of(self[role], self.columns[role])

    def before(self, role: str) -> list[dict[str, Any]]:
        """The turns before an answer, behind the system's words where the row has them."""
        return turns_before(self[role], self.columns[role], self.get("system"))

    def answer(self, role: str) -> list[dict[str, Any]]:
        """The turns of an answer."""
        return answer_of(self[role], self.columns[role])


@dataclass(frozen=True)
class Form:
    """A shape of records, before it is known which columns have its roles.

    Attributes:
        tasks: of the commands.
        needs: roles that a row must have.
        fits: whether values that are there and not null are of the right kinds.
        read: the requests; RowError where a value is not what it must be.
        gives: what becomes of the replies.
        may: roles that a row may have.
        parts: of each request the role that it is about; of one request all roles are.
    """

    name: str
    tasks: tuple[str, ...]
    needs: Names
    fits: Callable[[Cells], bool]
    read: Callable[[Cells], list[Request]]
    gives: Result
    may: Names = field(default_factory=dict)
    parts: tuple[str, ...] = ()


def _are(kind: Callable[[object], bool], *roles: str) -> Callable[[Cells], bool]:
    return lambda cells: all(kind(cells[role]) for role in roles)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object) -> bool:
    """Of strings, or of objects with texts."""
    value = unfolded(value)
    return isinstance(value, list) and all(isinstance(each, str | dict) for each in value)


def _is_said(value: object) -> bool:
    return isinstance(value, str) or is_conversation(value)


def _messages(value: list[dict[str, Any]]) -> Request:
    return {"messages": value}


def _transcript_pair(cells: Cells) -> list[Request]:
    return [_messages(transcript_of(cells[role], cells.columns[role])) for role in ("chosen", "rejected")]


def _message_pair(cells: Cells) -> list[Request]:
    return [_messages(_whole(cells, role)) for role in ("chosen", "rejected")]


def _whole(cells: Cells, role: str) -> list[dict[str, Any]]:
    """Messages that begin with an answer are put behind the prompt, where there is one; others are the whole."""
    said = conversation_of(cells[role], cells.columns[role])
    explicit = said[0]["role"] == "assistant" and cells.get("prompt") is not None
    return [*cells.before("prompt"), *said] if explicit else said


def _prompt_pair(cells: Cells) -> list[Request]:
    before = cells.before("prompt")
    return [_messages(before + cells.answer(role)) for role in ("chosen", "rejected")]


def _text_pair(cells: Cells) -> list[Request]:
    return [{"text": cells.text(role)} for role in ("chosen", "rejected")]


def _triplet(cells: Cells) -> list[Request]:
    query = cells.text("query")
    return [{"query": query, "documents": [cells.text(role)]} for role in ("positive", "negative")]


def _conversation(role: str) -> Callable[[Cells], list[Request]]:
    def read(cells: Cells) -> list[Request]:
        said = conversation_of(cells[role], cells.columns[role])
        system = cells.get("system")
        if system and said[0]["role"] != "system":
            said = [{"role": "system", "content": text_of(system, cells.columns["system"])}, *said]
        return [_messages(said)]

    return read


def _are_steps(cells: Cells) -> bool:
    """A list of strings under `steps`, or under `completions` with a list of as many labels."""
    steps, labels = unfolded(cells["steps"]), unfolded(cells.get("labels"))
    if not _is_said(cells["prompt"]) or not isinstance(steps, list) or not all(map(_is_text, steps)):
        return False
    return cells.columns["steps"] != "completions" or (isinstance(labels, list) and len(labels) == len(steps))


def _steps(cells: Cells) -> list[Request]:
    tag = cells.step_tag or ""
    solution = "".join(step + tag for step in cells.texts("steps"))
    return [_messages([*cells.before("prompt"), {"role": "assistant", "content": solution}])]


def _answers(cells: Cells) -> list[Request]:
    before = cells.before("prompt")
    return [_messages([*before, {"role": "assistant", "content": each}]) for each in cells.texts("completions")]


def _alpaca(cells: Cells) -> list[Request]:
    """The input stands in the line behind the instruction, where it is not empty."""
    instruction, more = cells.text("instruction"), cells.get("input")
    if more:
        instruction += "\n" + text_of(more, cells.columns["input"])
    before = turns_before(instruction, cells.columns["instruction"], cells.get("system"))
    return [_messages(before + cells.answer("completion"))]


def _completion(cells: Cells) -> list[Request]:
    return [_messages(cells.before("prompt") + cells.answer("completion"))]


def _each_document(cells: Cells) -> list[Request]:
    query = cells.text("query")
    return [{"query": query, "documents": [document]} for document in cells.texts("documents")]


def _all_documents(cells: Cells) -> list[Request]:
    return [{"query": cells.text("query"), "documents": cells.texts("documents")}]


def _labelled_documents(cells: Cells) -> list[Request]:
    return [{"query": cells.text("query"), "documents": [*cells.texts("positive"), *cells.texts("negative")]}]


def _pair_of_texts(first: str, second: str) -> Callable[[Cells], list[Request]]:
    return lambda cells: [{"query": cells.text(first), "documents": [cells.text(second)]}]


def _text(cells: Cells) -> list[Request]:
    return [{"text": cells.text("text")}]


_PAIR: Names = {"chosen": ("chosen",), "rejected": ("rejected",)}
_SUBSET: Names = {"subset": ("subset",)}
_SYSTEM: Names = {"system": ("system", "system_prompt")}
_PROMPT: Names = {"prompt": ("prompt", "question", "input", "query", "instruction")}
_COMPLETION: Names = {"completion": ("completion", "response", "answer", "output")}
_QUERY: Names = {"query": ("query", "question", "anchor")}
_DOCUMENTS: Names = {"documents": ("documents", "passages", "docs", "candidates", "texts")}
_LABELLED: Names = {"positive": ("positive", "pos"), "negative": ("negative", "neg")}
_TWO = ("chosen", "rejected")

FORMS: tuple[Form, ...] = (
    Form(
        "pair-transcripts", ("score",), _PAIR, _are(is_transcript, *_TWO), _transcript_pair, results.PAIR, _SUBSET, _TWO
    ),
    Form(
        "pair-messages",
        ("score",),
        _PAIR,
        _are(is_conversation, *_TWO),
        _message_pair,
        results.PAIR,
        _PROMPT | _SYSTEM | _SUBSET,
        _TWO,
    ),
    Form(
        "pair",
        ("score",),
        _PROMPT | _PAIR,
        lambda cells: _is_said(cells["prompt"]) and _are(_is_text, *_TWO)(cells),
        _prompt_pair,
        results.PAIR,
        _SYSTEM | _SUBSET,
        _TWO,
    ),
    Form("pair-texts", ("score",), _PAIR, _are(_is_text, *_TWO), _text_pair, results.PAIR, _SUBSET, _TWO),
    Form(
        "triplet",
        ("score",),
        _QUERY | _LABELLED,
        _are(_is_text, "query", "positive", "negative"),
        _triplet,
        results.PAIR,
        _SUBSET,
        ("positive", "negative"),
    ),
    Form(
        "messages",
        ("score", "embed"),
        {"messages": ("messages", "body.messages")},
        _are(is_conversation, "messages"),
        _conversation("messages"),
        results.SCORE,
        _SYSTEM,
    ),
    Form(
        "sharegpt",
        ("score", "embed"),
        {"conversations": ("conversations", "conversation")},
        _are(is_conversation, "conversations"),
        _conversation("conversations"),
        results.SCORE,
        _SYSTEM,
    ),
    Form(
        "steps",
        ("score",),
        _PROMPT | {"steps": ("steps", "completions")},
        _are_steps,
        _steps,
        results.STEPS,
        _SYSTEM | {"labels": ("labels",)},
    ),
    Form(
        "completions",
        ("score",),
        _PROMPT | {"completions": ("completions", "responses", "answers")},
        lambda cells: _is_said(cells["prompt"]) and _is_list(cells["completions"]),
        _answers,
        results.SCORES,
        _SYSTEM,
    ),
    Form(
        "alpaca",
        ("score",),
        {"instruction": ("instruction",)} | _COMPLETION,
        lambda cells: _is_text(cells["instruction"]) and _is_said(cells["completion"]),
        _alpaca,
        results.SCORE,
        _SYSTEM | {"input": ("input",)},
    ),
    Form(
        "completion",
        ("score",),
        _PROMPT | _COMPLETION,
        _are(_is_said, "prompt", "completion"),
        _completion,
        results.SCORE,
        _SYSTEM,
    ),
    Form(
        "documents",
        ("score",),
        _QUERY | _DOCUMENTS,
        lambda cells: _is_text(cells["query"]) and _is_list(cells["documents"]),
        _each_document,
        results.SCORES,
    ),
    Form(
        "documents",
        ("rerank",),
        _QUERY | _DOCUMENTS,
        lambda cells: _is_text(cells["query"]) and _is_list(cells["documents"]),
        _all_documents,
        results.RANKING,
    ),
    Form(
        "labelled-documents",
        ("rerank",),
        _QUERY | _LABELLED,
        lambda cells: _is_text(cells["query"]) and all(_is_list(cells[role]) for role in ("positive", "negative")),
        _labelled_documents,
        results.RANKING,
    ),
    Form(
        "document",
        ("score",),
        _QUERY | {"document": ("document", "passage", "positive")},
        _are(_is_text, "query", "document"),
        _pair_of_texts("query", "document"),
        results.SCORE,
    ),
    Form(
        "text-pair",
        ("score",),
        {"first": ("sentence1", "text1", "premise"), "second": ("sentence2", "text2", "hypothesis")},
        _are(_is_text, "first", "second"),
        _pair_of_texts("first", "second"),
        results.SCORE,
    ),
    Form(
        "text",
        ("score",),
        {"text": ("text", "content", "sentence", "body")},
        _are(_is_text, "text"),
        _text,
        results.SCORE,
    ),
    Form(
        "text",
        ("embed",),
        {
            "text": (
                "text",
                "input",
                "body.input",
                "content",
                "sentence",
                "query",
                "question",
                "document",
                "passage",
                "body",
            )
        },
        _are(_is_text, "text"),
        _text,
        results.EMBEDDING,
    ),
)
