"""Inputs that may have images: Jina's `{"text": ...}` and `{"image": ...}`, and Cohere's lists of parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import bad_request
from api.media.references import ImageReference
from api.protocol.inputs import MAX_INPUTS, Inputs, Texts, check_count, kind_of, nonempty_text, parse_inputs
from api.protocol.messages import Message, image_at, read_part

JINA_KEYS = ("text", "image")


@dataclass(frozen=True)
class Document:
    """What is embedded as one.

    Attributes:
        parts: texts and images in order, as templates read them.
        images: what the parts `{"type": "image"}` name, in order.
    """

    parts: Sequence[Mapping[str, Any]]
    images: Sequence[ImageReference] = ()

    @classmethod
    def of_text(cls, text: str) -> "Document":
        """One of a text alone."""
        return cls([{"type": "text", "text": text}])

    @classmethod
    def of_image(cls, image: ImageReference, text: str | None = None) -> "Document":
        """One of an image, and of a text behind it."""
        parts: list[dict[str, Any]] = [{"type": "image"}]
        return cls(parts if text is None else [*parts, {"type": "text", "text": text}], [image])

    @property
    def texts(self) -> list[str]:
        """Those in it, in order."""
        return [part["text"] for part in self.parts if "text" in part]

    @property
    def text(self) -> str:
        """Its texts, joined by line breaks."""
        return "\n".join(self.texts)

    @property
    def message(self) -> Message:
        """The document as what a user says, for a chat template."""
        return {"role": "user", "content": list(self.parts)}


@dataclass(frozen=True)
class Documents:
    """Inputs of which at least one has an image."""

    values: Sequence[Document]


def parse_input(value: object, vocabulary_size: int) -> Inputs | Documents:
    """The inputs of `/v1/embeddings` and its like: as of `parse_inputs`, and lists with Jina's objects among texts.

    Raises:
        ApiError: 400 that says which of them is wrong and why.
    """
    if not isinstance(value, list) or len(value) > MAX_INPUTS or not any(isinstance(each, dict) for each in value):
        return parse_inputs(value, vocabulary_size)
    check_count(value, "input")
    return texts_or_documents([_jina(each, f"input[{place}]") for place, each in enumerate(value)])


def texts_or_documents(documents: Sequence[Document]) -> Texts | Documents:
    """Documents as the texts that they are where none has an image."""
    if any(each.images for each in documents):
        return Documents(documents)
    return Texts([each.text for each in documents])


def _jina(value: object, place: str) -> Document:
    if isinstance(value, str):
        return Document.of_text(nonempty_text(value, place))
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
    text = nonempty_text(given["text"], f"{place}.text") if "text" in given else None
    if "image" in given:
        return Document.of_image(_jina_image(given["image"], f"{place}.image"), text)
    return Document.of_text(text or "")


def _jina_image(value: object, place: str) -> ImageReference:
    """The image of a URL, of a `data:` URI, or of bare base64, as Jina takes it: which has no colon."""
    found = image_at(value, place)
    return found if ":" in found.url else ImageReference(f"data:;base64,{found.url}", place)


def parts_document(content: object, place: str) -> Document:
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
            place.partition("[")[0],
            "invalid_type",
        )
    images: list[ImageReference] = []
    parts = []
    for index, each in enumerate(content):
        part = read_part(each, f"{place}.content[{index}]", images)
        if "text" in part:
            nonempty_text(part["text"], f"{place}.content[{index}].text")
        parts.append(part)
    return Document(parts, images)
