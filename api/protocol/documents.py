"""Inputs that may have images: Jina's `{"text": ...}` and `{"image": ...}`, and Cohere's lists of parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.errors import bad_request
from api.media.references import ImageReference
from api.protocol.inputs import MAX_INPUTS, Inputs, Texts, check_count, kind_of, nonempty_text, parse_inputs
from api.protocol.messages import IMAGE_PART, Message
from api.protocol.parts import Part, field_of, image_at, read_part

JINA_KEYS = ("text", "image")


@dataclass(frozen=True)
class Document:
    """What is embedded as one: texts and images in order."""

    parts: Sequence[Part]

    @property
    def images(self) -> list[ImageReference]:
        """Those in it, in order."""
        return [part for part in self.parts if isinstance(part, ImageReference)]

    @property
    def text(self) -> str:
        """Its texts, joined by line breaks."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def message(self) -> Message:
        """The document as what a user says, for a chat template."""
        parts = [{"type": "text", "text": part} if isinstance(part, str) else IMAGE_PART for part in self.parts]
        return {"role": "user", "content": parts}


@dataclass(frozen=True)
class Documents:
    """Inputs of which at least one has an image."""

    values: Sequence[Document]


def parse_input(value: object, vocabulary_size: int, *, takes_images: bool) -> Inputs | Documents:
    """The inputs of `/v1/embeddings` and its like: as of `parse_inputs`, and lists with Jina's objects among texts.

    Args:
        takes_images: whether the model does.

    Raises:
        ApiError: 400 that says which of them is wrong and why.
    """
    if not isinstance(value, list) or len(value) > MAX_INPUTS or not any(isinstance(each, dict) for each in value):
        return parse_inputs(value, vocabulary_size)
    check_count(value, "input")
    return texts_or_documents([_jina(each, f"input[{place}]", takes_images) for place, each in enumerate(value)])


def texts_or_documents(documents: Sequence[Document]) -> Texts | Documents:
    """Documents as the texts that they are where none has an image."""
    if any(each.images for each in documents):
        return Documents(documents)
    return Texts([each.text for each in documents])


def _jina(value: object, place: str, takes_images: bool) -> Document:
    if isinstance(value, str):
        return Document([nonempty_text(value, place)])
    if not isinstance(value, dict):
        raise bad_request(
            f'{place} is {kind_of(value)}; beside objects it must be one, like {{"text": ...}} or {{"image": ...}}, or '
            "a string.",
            "input",
            "invalid_type",
        )
    given = {key: value[key] for key in JINA_KEYS if value.get(key) is not None}
    if not given:
        raise bad_request(
            f"{place} has neither text nor image: send one of them, or both.", "input", "unsupported_content"
        )
    if "image" in given and not takes_images:
        raise bad_request(
            f"{place} is an image, and this model takes text only: leave it out.", "input", "unsupported_content"
        )
    image: list[Part] = [_jina_image(given["image"], f"{place}.image")] if "image" in given else []
    text: list[Part] = [nonempty_text(given["text"], f"{place}.text")] if "text" in given else []
    return Document([*image, *text])


def _jina_image(value: object, place: str) -> ImageReference:
    """The image of a URL, of a `data:` URI, or of bare base64, as Jina takes it: which has no colon."""
    found = image_at(value, place)
    return found if ":" in found.url else ImageReference(f"data:;base64,{found.url}", place)


def parts_document(content: object, place: str, takes_images: bool) -> Document:
    """The document of Cohere's `content`.

    Args:
        place: of the object that has it: `inputs[2]`.

    Raises:
        ApiError: 400 that says which part is wrong and why.
    """
    if not isinstance(content, list) or not content:
        raise bad_request(
            f'{place} must be an object like {{"content": [{{"type": "text", "text": "..."}}]}}, with one part at '
            "least.",
            field_of(place),
            "invalid_type",
        )
    parts = []
    for index, each in enumerate(content):
        spot = f"{place}.content[{index}]"
        part = read_part(each, spot, takes_images)
        parts.append(nonempty_text(part, f"{spot}.text") if isinstance(part, str) else part)
    return Document(parts)
