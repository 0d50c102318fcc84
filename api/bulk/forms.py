"""The shapes of records: which columns each needs, and what requests it makes of them.

`FORMS` is the order of precedence: where several fit a row, the first is meant.
docs/shapes.md shows an example of each.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from api.bulk import requests, results
from api.bulk.cells import Cells, are, are_steps, is_list, is_said, is_text
from api.bulk.images import is_image
from api.bulk.requests import Request
from api.bulk.results import Result
from api.bulk.values import is_conversation, is_transcript

Names = dict[str, tuple[str, ...]]
"""Of each role the columns that have it without being asked: the first is its own name, the others are aliases."""


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


_PAIR: Names = {"chosen": ("chosen",), "rejected": ("rejected",)}
_SUBSET: Names = {"subset": ("subset",)}
_IMAGE: Names = {"image": ("image", "images", "image_url", "image_path")}
_SYSTEM: Names = {"system": ("system", "system_prompt")}
_PROMPT: Names = {"prompt": ("prompt", "question", "problem", "input", "query", "instruction")}
_COMPLETION: Names = {"completion": ("completion", "response", "answer", "output", "solution")}
_QUERY: Names = {"query": ("query", "question", "anchor")}
_DOCUMENTS: Names = {"documents": ("documents", "passages", "docs", "candidates", "texts")}
_LABELLED: Names = {"positive": ("positive", "pos"), "negative": ("negative", "neg")}
_TWO = ("chosen", "rejected")

FORMS: tuple[Form, ...] = (
    Form(
        "pair-transcripts",
        ("score",),
        _PAIR,
        are(is_transcript, *_TWO),
        requests.transcript_pair,
        results.PAIR,
        _SUBSET,
        _TWO,
    ),
    Form(
        "pair-messages",
        ("score",),
        _PAIR,
        are(is_conversation, *_TWO),
        requests.message_pair,
        results.PAIR,
        _PROMPT | _SYSTEM | _SUBSET,
        _TWO,
    ),
    Form(
        "pair",
        ("score",),
        _PROMPT | _PAIR,
        lambda cells: is_said(cells["prompt"]) and are(is_text, *_TWO)(cells),
        requests.prompt_pair,
        results.PAIR,
        _SYSTEM | _SUBSET | _IMAGE,
        _TWO,
    ),
    Form("pair-texts", ("score",), _PAIR, are(is_text, *_TWO), requests.text_pair, results.PAIR, _SUBSET, _TWO),
    Form(
        "triplet",
        ("score",),
        _QUERY | _LABELLED,
        are(is_text, "query", "positive", "negative"),
        requests.triplet,
        results.PAIR,
        _SUBSET,
        ("positive", "negative"),
    ),
    Form(
        "messages",
        ("score", "embed"),
        {"messages": ("messages", "body.messages")},
        are(is_conversation, "messages"),
        requests.conversation("messages"),
        results.SCORE,
        _SYSTEM,
    ),
    Form(
        "sharegpt",
        ("score", "embed"),
        {"conversations": ("conversations", "conversation")},
        are(is_conversation, "conversations"),
        requests.conversation("conversations"),
        results.SCORE,
        _SYSTEM,
    ),
    Form(
        "steps",
        ("score",),
        _PROMPT | {"steps": ("steps", "completions")},
        are_steps,
        requests.steps,
        results.STEPS,
        _SYSTEM | {"labels": ("labels",)},
    ),
    Form(
        "completions",
        ("score",),
        _PROMPT | {"completions": ("completions", "responses", "answers")},
        lambda cells: is_said(cells["prompt"]) and is_list(cells["completions"]),
        requests.answers,
        results.SCORES,
        _SYSTEM | _IMAGE,
    ),
    Form(
        "alpaca",
        ("score",),
        {"instruction": ("instruction",)} | _COMPLETION,
        lambda cells: is_text(cells["instruction"]) and is_said(cells["completion"]),
        requests.alpaca,
        results.SCORE,
        _SYSTEM | {"input": ("input",)},
    ),
    Form(
        "completion",
        ("score",),
        _PROMPT | _COMPLETION,
        are(is_said, "prompt", "completion"),
        requests.completion,
        results.SCORE,
        _SYSTEM | _IMAGE,
    ),
    Form(
        "image",
        ("score", "embed"),
        _IMAGE,
        are(is_image, "image"),
        requests.image,
        results.SCORE,
        _SYSTEM | {"text": ("text", "caption", "prompt", "question", "query")},
    ),
    Form(
        "documents",
        ("score",),
        _QUERY | _DOCUMENTS,
        lambda cells: is_text(cells["query"]) and is_list(cells["documents"]),
        requests.each_document,
        results.SCORES,
    ),
    Form(
        "documents",
        ("rerank",),
        _QUERY | _DOCUMENTS,
        lambda cells: is_text(cells["query"]) and is_list(cells["documents"]),
        requests.all_documents,
        results.RANKING,
    ),
    Form(
        "labelled-documents",
        ("rerank",),
        _QUERY | _LABELLED,
        lambda cells: is_text(cells["query"]) and all(is_list(cells[role]) for role in ("positive", "negative")),
        requests.labelled_documents,
        results.RANKING,
    ),
    Form(
        "document",
        ("score",),
        _QUERY | {"document": ("document", "passage", "positive")},
        are(is_text, "query", "document"),
        requests.pair_of_texts("query", "document"),
        results.SCORE,
    ),
    Form(
        "text-pair",
        ("score",),
        {"first": ("sentence1", "text1", "premise"), "second": ("sentence2", "text2", "hypothesis")},
        are(is_text, "first", "second"),
        requests.pair_of_texts("first", "second"),
        results.SCORE,
    ),
    Form(
        "text",
        ("score",),
        {"text": ("text", "content", "sentence", "body")},
        are(is_text, "text"),
        requests.text,
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
        are(is_text, "text"),
        requests.text,
        results.EMBEDDING,
    ),
)
