"""What is asked about a row: the rows of `POST /v1/rows` that it makes, by its shape."""

from collections.abc import Callable
from typing import Any

from api.bulk.cells import Cells
from api.bulk.images import image_parts
from api.bulk.values import conversation_of, text_of, transcript_of, user

Request = dict[str, Any]
"""A row of `POST /v1/rows`."""


def _messages(value: list[dict[str, Any]]) -> Request:
    return {"messages": value}


def transcript_pair(cells: Cells) -> list[Request]:
    """Two conversations, each out of a text of turns."""
    return [_messages(transcript_of(cells[role], cells.columns[role])) for role in ("chosen", "rejected")]


def message_pair(cells: Cells) -> list[Request]:
    """Two conversations, each of messages: the whole, or an answer behind the prompt."""
    return [_messages(_whole(cells, role)) for role in ("chosen", "rejected")]


def _whole(cells: Cells, role: str) -> list[dict[str, Any]]:
    """Messages that begin with an answer are put behind the prompt, where there is one; others are the whole."""
    said = conversation_of(cells[role], cells.columns[role])
    explicit = said[0]["role"] == "assistant" and cells.get("prompt") is not None
    return [*cells.before("prompt"), *said] if explicit else said


def prompt_pair(cells: Cells) -> list[Request]:
    """Two conversations with the same prompt."""
    before = cells.before("prompt")
    return [_messages(before + cells.answer(role)) for role in ("chosen", "rejected")]


def text_pair(cells: Cells) -> list[Request]:
    """Two texts as they stand."""
    return [{"text": cells.text(role)} for role in ("chosen", "rejected")]


def triplet(cells: Cells) -> list[Request]:
    """A query with a document that fits, and with one that does not."""
    query = cells.text("query")
    return [{"query": query, "documents": [cells.text(role)]} for role in ("positive", "negative")]


def conversation(role: str) -> Callable[[Cells], list[Request]]:
    """Reads the messages of a role as one conversation."""

    def read(cells: Cells) -> list[Request]:
        said = conversation_of(cells[role], cells.columns[role])
        return [_messages(cells.behind_system(said))]

    return read


def steps(cells: Cells) -> list[Request]:
    """A conversation in which the tag stands behind each step of the answer."""
    tag = cells.step_tag or ""
    solution = "".join(step + tag for step in cells.texts("steps"))
    return [_messages([*cells.before("prompt"), {"role": "assistant", "content": solution}])]


def answers(cells: Cells) -> list[Request]:
    """A conversation for each answer to the prompt."""
    before = cells.before("prompt")
    return [_messages([*before, {"role": "assistant", "content": each}]) for each in cells.texts("completions")]


def alpaca(cells: Cells) -> list[Request]:
    """A conversation; the input stands in the line behind the instruction, where it is not empty."""
    instruction, more = cells.text("instruction"), cells.get("input")
    if more:
        instruction += "\n" + text_of(more, cells.columns["input"])
    return [_messages(cells.behind_system([user(instruction)]) + cells.answer("completion"))]


def completion(cells: Cells) -> list[Request]:
    """A conversation: the prompt and its answer."""
    return [_messages(cells.before("prompt") + cells.answer("completion"))]


def each_document(cells: Cells) -> list[Request]:
    """The query with each document alone."""
    query = cells.text("query")
    return [{"query": query, "documents": [document]} for document in cells.texts("documents")]


def all_documents(cells: Cells) -> list[Request]:
    """The query with all documents."""
    return [{"query": cells.text("query"), "documents": cells.texts("documents")}]


def labelled_documents(cells: Cells) -> list[Request]:
    """The query with all documents, those that fit first."""
    return [{"query": cells.text("query"), "documents": [*cells.texts("positive"), *cells.texts("negative")]}]


def pair_of_texts(first: str, second: str) -> Callable[[Cells], list[Request]]:
    """Reads the texts of two roles as a query and its document."""
    return lambda cells: [{"query": cells.text(first), "documents": [cells.text(second)]}]


def image(cells: Cells) -> list[Request]:
    """A message of the user: the images, and the text where there is one."""
    said = cells.get("text")
    parts = image_parts(cells["image"], cells.columns["image"])
    if said:
        parts.append({"type": "text", "text": text_of(said, cells.columns["text"])})
    return [_messages(cells.behind_system([{"role": "user", "content": parts}]))]


def text(cells: Cells) -> list[Request]:
    """A text as it stands."""
    return [{"text": cells.text("text")}]
