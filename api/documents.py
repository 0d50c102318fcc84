"""Documents with images as sequences, where a request has no messages: Jina's and Cohere's embeddings."""

from collections.abc import Mapping, Sequence

from fastapi import Request

from api.conversing import check_template
from api.errors import bad_request
from api.media.references import FetchedImage
from api.picturing import (
    ImageOptions,
    check_options,
    check_takes,
    check_written,
    fetched_images,
    image_alone,
    placeholders_in,
    with_images,
)
from api.protocol.documents import Document
from api.sequences import Limit, Sequences, Truncation
from api.serving import ServedModel
from api.state import timings_of
from pooling.tokenizing import TokenIds

TOGETHER = 64
"""Documents that a template's process gets at once."""


async def documents_within(
    request: Request,
    model: ServedModel,
    field: str,
    documents: Sequence[Document],
    truncation: Truncation,
    *,
    add_special_tokens: bool = True,
    prompt: str = "",
    options: ImageOptions | None = None,
) -> Sequences:
    """Documents as tokens: those of text alone as texts, those with images as the chat template renders a user's turn.

    Where no token stands for images, a document is a text or an image, and no template is asked.

    Args:
        field: where they come from in the request.
        prompt: stands before each text that has no image.
        options: how images are processed (`mm_processor_kwargs`).

    Raises:
        ApiError: 400, a document has no tokens, has what the model does not take, or is too long and may not be cut:
            with images none may.
        Rehearsed: it was only asked whether the call could run; its images are fetched when it does.
    """
    image_options, limit = check_options(model, options), Limit.of(truncation, model)
    pictured = {place: each for place, each in enumerate(documents) if each.images}
    _check(model, field, pictured)
    texts = {place: prompt + each.text for place, each in enumerate(documents) if not each.images}
    found, cut = await _texts(request, model, field, texts, limit, add_special_tokens)
    rendered = await _rendered(request, model, pictured) if model.spec.placeholder_id is not None else {}
    images: dict[int, Sequence[FetchedImage]] = {}
    with timings_of(request).stage("images"):
        named = [image for each in pictured.values() for image in each.images]
        fetched = iter(await fetched_images(request, named))
    for place, document in pictured.items():
        images[place] = [next(fetched) for _ in document.images]
        found[place] = (
            with_images(model, rendered[place], images[place], image_options, limit, f"{field}[{place}]")
            if rendered
            else image_alone()
        )
    places = range(len(documents))
    return Sequences(
        field,
        [found[place] for place in places],
        cut=len(cut),
        cut_places=cut,
        images=[images.get(place, ()) for place in places],
        image_options=image_options,
    )


def _check(model: ServedModel, field: str, documents: Mapping[int, Document]) -> None:
    """Raises a 400 for documents with images that the model does not take as they are."""
    for place, each in documents.items():
        check_takes(model, each.images[0])
        check_written(model, each.texts, field)
        if model.spec.placeholder_id is None and len(each.parts) > 1:
            raise bad_request(
                f"{field}[{place}] has {len(each.parts)} parts, and {model.name} embeds an image by itself, and a text "
                "by itself: send each as an input of its own.",
                field,
                "unsupported_content",
            )
    if documents and model.spec.placeholder_id is not None:
        check_template(model)


async def _texts(
    request: Request, model: ServedModel, field: str, texts: Mapping[int, str], limit: Limit, add_special_tokens: bool
) -> tuple[dict[int, TokenIds], list[int]]:
    """The tokens of texts by their places in the request, and which were cut."""
    timings = timings_of(request)
    with timings.stage("tokenize"):
        timings.characters += sum(map(len, texts.values()))
        ids = await model.tokenize_within(
            list(texts.values()), limit.tokens, add_special_tokens=add_special_tokens, side=limit.side
        )
    found, cut = dict[int, TokenIds](), list[int]()
    for (place, text), each in zip(texts.items(), ids, strict=True):
        if not len(each):
            raise bad_request(f"{field}[{place}] has no tokens: leave it out.", field, "empty")
        if len(each) > limit.tokens:
            if not limit.may_cut:
                counted = not model.tokenizer.may_shorten(text, limit.tokens)
                raise limit.too_long(f"{field}[{place}]", len(each), counted)
            cut.append(place)
        found[place] = model.tokenizer.truncate(each, limit.tokens, limit.side)
    return found, cut


async def _rendered(request: Request, model: ServedModel, documents: Mapping[int, Document]) -> dict[int, TokenIds]:
    """The tokens of documents with images by their places in the request, with one placeholder for each image."""
    timings, texts = timings_of(request), list[str]()
    conversations = [[each.message] for each in documents.values()]
    with timings.stage("tokenize"):
        for begin in range(0, len(conversations), TOGETHER):
            texts += await model.renderer.render_many(conversations[begin : begin + TOGETHER])
        texts = [placeholders_in(text, model) for text in texts]
        characters = sum(map(len, texts))
        timings.characters += characters
        # The template writes special tokens itself.
        ids = await model.aside(characters, model.tokenizer.encode_rendered, texts, False)
    return dict(zip(documents, ids, strict=True))
