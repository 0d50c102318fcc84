"""The rows of one call as sequences, and what is pooled of them as entries. A row that is wrong spoils no other."""

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import Request

from api.answering import failure_error
from api.conversing import check_steps, check_template, check_variables
from api.documents import IMAGE_ALONE
from api.errors import ApiError, bad_request
from api.media.references import FetchedImage, ImageReference
from api.picturing import (
    check_images,
    check_no_places,
    check_options,
    check_written,
    fetched_images,
    placeholders_in,
    with_images,
)
from api.protocol.inputs import Tokens, nonempty_text, nonempty_texts
from api.protocol.messages import Message, parse_messages
from api.protocol.rows import RowsRequest, RowTask, error_entry
from api.scoring import Comparison, Group, comparison
from api.sequences import Limit, Sequences, Truncation, ids_within
from api.serving import ServedModel
from api.state import state_of, timings_of
from pooling.pooler_config import Activation
from pooling.tokenizing import TokenIds
from pooling.vision.processors import ImageOptions
from scheduler.messages import Failure, Result

TOGETHER = 64
"""Conversations that a template's process gets at once, and rows that are compared without a pause: some 10 ms of work,
for which others wait."""

FETCHED_TOGETHER = 16
"""Rows whose images are fetched at once."""

MAX_DOCUMENTS = 16_384
"""In all rows of a call: each becomes an item of the queue, and a few megabytes of JSON could hold millions."""

ROW_CHARACTERS = 64
"""What checking a row or writing its entry costs, in characters to tokenise."""

Entry = dict[str, Any]
Finish = Callable[[Sequence[bytes]], Entry]
"""Makes a row's entry of what was pooled for its sequences."""


@dataclass(frozen=True)
class Row:
    """A row that is ready for the queue.

    Attributes:
        text: what was tokenised; None where that is token ids, or a query with documents.
        pooling_activation: of what is pooled, other than the model's own.
        activation: what its numbers have been through, by name; None: the model's own.
    """

    sequences: Sequences
    finish: Finish
    text: str | None = None
    pooling_activation: Activation | None = None
    activation: str | None = None


Prepared = Row | ApiError


@dataclass
class _Single:
    """A row that becomes one sequence, on its way to it."""

    messages: Sequence[Message] | None = None
    text: str | None = None
    ids: TokenIds | None = None
    error: ApiError | None = field(default=None)
    named: Sequence[ImageReference] = ()
    images: Sequence[FetchedImage] = ()


async def prepared_rows(request: Request, call: RowsRequest, model: ServedModel) -> list[Prepared]:
    """Each row as sequences, or why it cannot be.

    Raises:
        ApiError: what concerns all rows: a limit or a variable of the call.
    """
    rows = call.checked_rows()
    if call.task is RowTask.RERANK:
        return await _all_compared(request, model, rows, call.truncation(), _scores)
    paired = [place for place, row in enumerate(rows) if call.task is RowTask.SCORE and _is_pair(row)]
    found = dict(
        zip(
            paired,
            await _all_compared(request, model, [rows[place] for place in paired], call.truncation(), _one_score),
            strict=True,
        )
    )
    others = [place for place in range(len(rows)) if place not in found]
    found |= zip(others, await _singles(request, call, model, [rows[place] for place in others]), strict=True)
    return [found[place] for place in range(len(rows))]


async def _singles(request: Request, call: RowsRequest, model: ServedModel, rows: Sequence[object]) -> list[Prepared]:
    """Rows that are one sequence each."""
    # What is scored stands at the end: of a row that is too long the beginning goes, as on /v1/chat/reward.
    truncation = call.truncation("left" if call.task is RowTask.SCORE else "right")
    limit = Limit.of(truncation, model)
    check_variables(call.chat_template_kwargs)
    check_written(model, call.chat_template_kwargs, "chat_template_kwargs")
    options = check_options(model, call.mm_processor_kwargs)
    finish = _score if call.task is RowTask.SCORE else _embedding(call.encoding_format)
    timings = timings_of(request)
    with timings.stage("tokenize"):
        singles = await model.aside(
            len(rows) * ROW_CHARACTERS, lambda: [_single(row, model, call.task) for row in rows]
        )
        await _fetch(request, singles)
        await _render(model, singles, call.chat_template_kwargs)
        characters = sum(len(single.text) for single in singles if single.text is not None)
        timings.characters += characters

        def tokenized() -> list[Prepared]:
            _tokenize(model, singles, call.add_special_tokens, limit)
            return [_within(model, single, truncation, limit, finish, options) for single in singles]

        return await model.aside(characters + len(rows) * ROW_CHARACTERS, tokenized)


async def _all_compared(
    request: Request,
    model: ServedModel,
    rows: Sequence[object],
    truncation: Truncation,
    finished: Callable[[Comparison], Finish],
) -> list[Prepared]:
    """Rows that are a query with documents.

    Raises:
        ApiError: 400 they have too many documents together.
    """
    Limit.of(truncation, model)
    _check_documents(rows)
    found: list[Prepared] = []
    for begin in range(0, len(rows), TOGETHER):
        group = rows[begin : begin + TOGETHER]
        found += await asyncio.gather(*(_compared(request, model, row, truncation, finished) for row in group))
        # Short texts are tokenised right here: others get their turn in between.
        await asyncio.sleep(0)
    return found


async def _compared(
    request: Request,
    model: ServedModel,
    row: object,
    truncation: Truncation,
    finished: Callable[[Comparison], Finish],
) -> Prepared:
    try:
        values = _object(row)
        group = Group(nonempty_text(values.get("query"), "query"), nonempty_texts(values.get("documents"), "documents"))
        made = await comparison(request, model, [group], truncation)
        check_no_places(model, made.sequences)
    except ApiError as error:
        # A server that is busy is no fault of the row's.
        if error.status >= 500:
            raise
        return error
    return Row(made.sequences, finished(made), None, made.pooling_activation, made.activation)


def _check_documents(rows: Sequence[object]) -> None:
    """Refuses a call of which nobody could say how many items it makes."""
    lists = [row.get("documents") for row in rows if isinstance(row, dict)]
    count = sum(len(each) for each in lists if isinstance(each, list))
    if count > MAX_DOCUMENTS:
        raise bad_request(
            f"rows have {count} documents together, over the {MAX_DOCUMENTS} of one call: send fewer rows at once.",
            "rows",
            "too_many_inputs",
        )


def _is_pair(row: object) -> bool:
    return isinstance(row, dict) and "query" in row


def _scores(made: Comparison) -> Finish:
    return lambda pooled: {"scores": made.scores(pooled)}


def _one_score(made: Comparison) -> Finish:
    return lambda pooled: {"score": made.scores(pooled)}


def _single(row: object, model: ServedModel, task: RowTask) -> _Single:
    try:
        values = _object(row)
        if (values.get("messages") is None) == (values.get("text") is None):
            raise bad_request("A row has either messages or text.", "messages", "missing")
        if values.get("text") is not None:
            # Texts that are embedded have the checkpoint's prompt before them, as on /v1/embeddings.
            prompt = model.prompt(None) if task is RowTask.EMBED else ""
            return _Single(text=prompt + nonempty_text(values["text"], "text"))
        parsed = parse_messages(values["messages"], model.tokenizer.vocab_size)
        if isinstance(parsed, Tokens):
            return _Single(ids=np.asarray(parsed.values[0], dtype=np.int32))
        check_images(model, parsed, values["messages"])
        if parsed.images and model.spec.placeholder_id is None:
            return _Single(ids=IMAGE_ALONE, named=parsed.images)
        check_template(model)
        return _Single(messages=parsed.messages, named=parsed.images)
    except ApiError as error:
        return _Single(error=error)


def _object(row: object) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise bad_request("A row must be an object.", "rows", "invalid_type")
    return row


async def _fetch(request: Request, singles: Sequence[_Single]) -> None:
    """Fetches the images of rows; a row whose image is not to be had is wrong, and no other.

    Raises:
        ApiError: 413, the images of all rows are more than may be kept at once.
        Rehearsed: it was only asked whether the call could run.
    """
    waiting = [single for single in singles if single.named]
    most = state_of(request).options.media_cache_mb * 1024 * 1024
    size = 0
    for begin in range(0, len(waiting), FETCHED_TOGETHER):
        group = waiting[begin : begin + FETCHED_TOGETHER]
        found = await asyncio.gather(*(fetched_images(request, each.named) for each in group), return_exceptions=True)
        for single, images in zip(group, found, strict=True):
            if isinstance(images, ApiError) and images.status < 500:
                single.error = images
            elif isinstance(images, BaseException):
                raise images
            else:
                single.images = images
                size += sum(len(image.data) for image in images)
        if size > most:
            raise ApiError(
                413,
                f"rows have images of more than {most} bytes together, and no more are kept at once "
                "(--media-cache-mb): send fewer rows.",
                param="rows",
                code="request_too_large",
            )


async def _render(model: ServedModel, singles: Sequence[_Single], variables: Mapping[str, Any] | None) -> None:
    """Makes texts of messages, many at once; where the template refuses one of many, one by one."""
    waiting = [single for single in singles if single.messages is not None and single.error is None]
    for begin in range(0, len(waiting), TOGETHER):
        group = waiting[begin : begin + TOGETHER]
        try:
            texts = await model.renderer.render_many([each.messages or () for each in group], variables=variables)
        except ApiError as error:
            if error.status != 400:
                raise
            await _render_one_by_one(model, group, variables)
            continue
        for single, text in zip(group, texts, strict=True):
            single.text = text


async def _render_one_by_one(
    model: ServedModel, singles: Sequence[_Single], variables: Mapping[str, Any] | None
) -> None:
    for single in singles:
        try:
            single.text = await model.renderer.render(single.messages or (), variables=variables)
        except ApiError as error:
            if error.status != 400:
                raise
            single.error = error


def _tokenize(model: ServedModel, singles: Sequence[_Single], framed: bool | None, limit: Limit) -> None:
    """Makes tokens of texts: those of messages without the tokenizer's frame, others with it, unless the call says."""
    tokenizer = model.tokenizer
    for rendered in (True, False):
        group = [each for each in singles if each.text is not None and (each.messages is not None) == rendered]
        texts = [
            placeholders_in(each.text or "", model)
            if each.images
            else tokenizer.shortened(each.text or "", limit.tokens, limit.side)
            for each in group
        ]
        adds = (not rendered) if framed is None else framed
        found = tokenizer.encode_rendered(texts, adds) if rendered else tokenizer.encode(texts, adds)
        for single, ids in zip(group, found, strict=True):
            single.ids = ids


def _within(
    model: ServedModel,
    single: _Single,
    truncation: Truncation,
    limit: Limit,
    finish: Finish,
    options: ImageOptions,
) -> Prepared:
    if single.error is not None:
        return single.error
    assert single.ids is not None
    name = "text" if single.messages is None and single.text is not None else "messages"
    try:
        if single.images:
            alone = single.messages is None
            ids = single.ids if alone else with_images(model, single.ids, single.images, options, limit)
            sequences = Sequences(name, [ids], images=[single.images], image_options=options)
        elif 0 < len(single.ids) <= limit.tokens:
            sequences = Sequences(name, [single.ids])
        else:
            texts = None if single.text is None else [single.text]
            sequences = ids_within(model, name, [single.ids], truncation, texts)
        check_no_places(model, sequences)
        check_steps(sequences.ids[0], model)
    except ApiError as error:
        return error
    return Row(sequences, finish, single.text)


def _score(pooled: Sequence[bytes]) -> Entry:
    return {"score": np.frombuffer(pooled[0], "<f4")}


def _embedding(encoding_format: str) -> Finish:
    if encoding_format == "base64":
        return lambda pooled: {"embedding": base64.b64encode(pooled[0]).decode()}
    return lambda pooled: {"embedding": np.frombuffer(pooled[0], "<f4")}


def rendered_entry(row: Row) -> Entry:
    """What would be computed: a row's text and its number of tokens."""
    return {**_head(row), "prompt": row.text}


def pooled_entry(row: Row, results: Sequence[Result]) -> Entry:
    """A row's entry from the results of its sequences: an error where the queue has given one of them up."""
    values = []
    for index, result in enumerate(results):
        if isinstance(result, Failure):
            return error_entry(failure_error(row.sequences, index, result))
        values.append(result.data)
    return {**_head(row), **row.finish(values)}


def _head(row: Row) -> Entry:
    head: Entry = {"tokens": row.sequences.tokens}
    return {**head, "truncated": True} if row.sequences.cut else head
