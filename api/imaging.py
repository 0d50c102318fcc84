"""From texts with placeholders to sequences with images: fetched, measured, and given their places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import Request

from api.errors import bad_request
from api.images import ImageReader
from api.media.references import FetchedImage, ImageReference
from api.placeholders import placeholders, written_in
from api.sequences import Limit, Sequences
from api.serving import ServedModel
from api.state import state_of
from pooling.tokenizing import TokenIds
from pooling.vision.layout import expanded
from pooling.vision.processors import ImageOptions

IMAGE_ALONE = 0
"""The one id of a sequence that is an image, of models in which no token stands for images."""


@dataclass(frozen=True)
class Unexpanded:
    """A sequence in which each image has one place so far.

    Attributes:
        place: of the request, for messages: `messages`, `input[3]`.
        ids: int32 [n], with one placeholder for each image.
        counted: whether these are all ids, or some of a long text's.
        images: in the order of their places.
    """

    place: str
    ids: TokenIds
    images: Sequence[ImageReference]
    counted: bool = True


@dataclass(frozen=True)
class Pictured:
    """A sequence with its images.

    Attributes:
        ids: int32 [n], with as many placeholders for each image as it has tokens.
        image_tokens: how many these are.
    """

    ids: TokenIds
    images: Sequence[FetchedImage] = ()
    image_tokens: int = 0


async def pictured(
    request: Request,
    model: ServedModel,
    sequences: Sequence[Unexpanded],
    options: ImageOptions,
    limit: Limit,
    template: str,
) -> list[Pictured]:
    """The sequences of one request with their images, which are fetched together.

    Args:
        options: how they are processed, checked.
        template: what wrote the placeholders, for messages.

    Raises:
        ApiError: 400, an image is not taken, the template has not one place for each, or a sequence is too long.
    """
    reader = reader_of(model)
    for each in sequences:
        check_places(reader, each, template)
        if len(each.ids) > limit.tokens:
            raise limit.no_room(each.place, len(each.ids))
    fetched = iter(await state_of(request).media.fetched([image for each in sequences for image in each.images]))
    return [with_images(reader, each, [next(fetched) for _ in each.images], options, limit) for each in sequences]


def reader_of(model: ServedModel) -> ImageReader:
    """How a model that takes images does."""
    assert model.images is not None
    return model.images


def check_places(reader: ImageReader, sequence: Unexpanded, template: str) -> None:
    """Refuses a sequence in which a template has not written one placeholder for each image."""
    # Of a text that was cut because it is too long, some may be missing: it is refused for that.
    if reader.placeholder_id is None or not sequence.counted:
        return
    found, wanted = placeholders(sequence.ids, reader.placeholder_id), len(sequence.images)
    if found != wanted:
        raise bad_request(
            f"{sequence.place}: {template} makes {found} places for images ({reader.placeholder}) of {wanted} images; "
            "each image needs one. Put images where the template reads them, which is mostly a user's content.",
            sequence.place.partition("[")[0],
            "image_places",
        )


def with_images(
    reader: ImageReader, sequence: Unexpanded, images: Sequence[FetchedImage], options: ImageOptions, limit: Limit
) -> Pictured:
    """The sequence with as many placeholders for each image as it has tokens.

    Raises:
        ApiError: 400, it is too long then. That is found out before it is made.
    """
    counts = [reader.tokens(image, options) for image in images]
    text_tokens = len(sequence.ids) - len(images) if reader.placeholder_id is not None else 0
    if text_tokens + sum(counts) > limit.tokens:
        raise limit.no_room(sequence.place, text_tokens + sum(counts), sum(counts))
    if reader.placeholder_id is None:
        return Pictured(np.full(1, IMAGE_ALONE, dtype=np.int32), images, 1)
    return Pictured(expanded(sequence.ids, reader.placeholder_id, counts), images, sum(counts))


def check_written(reader: ImageReader | None, value: object, place: str) -> None:
    """Refuses what a caller wrote where it has the text of a placeholder: it would shift the images.

    Args:
        value: JSON.
        place: of the request: `messages`, `input[3]`.
    """
    found = written_in(value, reader.written, place) if reader and reader.written else None
    if found is not None:
        where, word = found
        raise bad_request(
            f"{where} has {word}, which stands for an image: leave it out, and send the image as a part of its own.",
            place.partition("[")[0],
            "reserved_token",
        )


def check_no_placeholders(model: ServedModel, sequences: Sequences) -> None:
    """Refuses sequences without images that have the token for one: texts and token ids of callers, and pairs."""
    reader = model.images
    if reader is None or reader.placeholder_id is None:
        return
    for index, ids in enumerate(sequences.ids):
        if sequences.images and sequences.images[index]:
            continue
        if placeholders(ids, reader.placeholder_id):
            raise bad_request(
                f"{sequences.place(index)} has the token {reader.placeholder_id} ({reader.placeholder}), which stands "
                "for an image: leave it out, and send the image as a part of messages.",
                sequences.field,
                "reserved_token",
            )


def sequences_with(
    field: str, found: Sequence[Pictured], options: ImageOptions, cut_places: Sequence[int] = ()
) -> Sequences:
    """Sequences, of which some have images, for the queue.

    Args:
        cut_places: of those that were longer than the limit and were cut.
    """
    tokens = sum(each.image_tokens for each in found)
    return Sequences(
        field,
        [each.ids for each in found],
        cut=len(cut_places),
        cut_places=cut_places,
        images=[each.images for each in found] if tokens else (),
        image_tokens=tokens,
        image_options=options if tokens else {},
    )
