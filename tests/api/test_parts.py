"""Parts, messages and documents: which images stand where, and what is said of those that are wrong."""

import pytest

from api.errors import ApiError
from api.media.references import ImageReference
from api.protocol.documents import Document, Documents, parse_input, parts_document
from api.protocol.inputs import Texts
from api.protocol.messages import IMAGE_PART, Conversation, parse_messages

URL = "https://example.com/a.png"
DATA = "data:image/png;base64,AAAA"


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*parts: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": list(parts)}]


def conversation(messages: object, takes_images: bool = True) -> Conversation:
    found = parse_messages(messages, 100, takes_images=takes_images)
    assert isinstance(found, Conversation)
    return found


def refusal(messages: object, takes_images: bool = True) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_messages(messages, 100, takes_images=takes_images)
    assert caught.value.status == 400
    return caught.value


FORMS: list[tuple[dict[str, object], str]] = [
    ({"type": "image_url", "image_url": {"url": URL}}, "image_url"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, "image_url"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": None}}, "image_url"),
    ({"type": "image_url", "image_url": URL}, "image_url"),
    ({"type": "input_image", "image_url": URL, "detail": "high"}, "image_url"),
    ({"type": "image", "image": URL}, "image"),
    ({"type": "image", "image": {"url": URL}}, "image"),
]


@pytest.mark.parametrize(("part", "key"), FORMS, ids=lambda value: str(value)[:60])
def test_an_image_part_of_every_form_is_an_image_in_its_place(part: dict[str, object], key: str) -> None:
    found = conversation(user(text("what is it?"), part))
    assert found.images == [ImageReference(URL, f"messages[0].content[1].{key}")]
    assert found.messages == [{"role": "user", "content": [text("what is it?"), {"type": "image"}]}]


def test_images_of_all_messages_come_in_order_and_a_message_may_have_nothing_else() -> None:
    first, second = {"type": "image", "image": URL}, {"type": "image_url", "image_url": DATA}
    found = conversation([*user(first, text("a"), second), {"role": "assistant", "content": "b"}, *user(second)])
    assert [(each.url, each.place) for each in found.images] == [
        (URL, "messages[0].content[0].image"),
        (DATA, "messages[0].content[2].image_url"),
        (DATA, "messages[2].content[0].image_url"),
    ]
    assert found.messages[2]["content"] == [IMAGE_PART]


def test_a_text_part_with_an_image_of_null_is_a_text_to_a_template_for_images() -> None:
    part = {**text("a"), "image": None}
    assert conversation(user(part)).messages == user(text("a"))
    assert conversation(user(part), takes_images=False).messages == user(part)


def test_what_a_caller_sent_is_left_as_it_was() -> None:
    sent = user({"type": "image", "image": URL})
    conversation(sent)
    assert sent == user({"type": "image", "image": URL})


BAD: list[tuple[object, str]] = [
    ({"type": "image_url"}, r"content\[0\].image_url is null; it must be the URL of an image"),
    ({"type": "image_url", "image_url": {}}, r"content\[0\].image_url is null"),
    ({"type": "image_url", "image_url": 7}, r"content\[0\].image_url is a whole number"),
    ({"type": "image_url", "image_url": {"url": ["a"]}}, r"content\[0\].image_url is a list"),
    ({"type": "image", "image": ""}, r"content\[0\].image is an empty string"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": "huge"}}, "detail 'huge'; .* auto, low, high"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": []}}, "has the detail"),
    ({"type": "video_url", "video_url": {"url": URL}}, "of type video_url, and this model takes text and images"),
    ({"type": "input_audio", "input_audio": {}}, "of type input_audio"),
    ({"type": "file", "file": {}}, "of type file"),
    ({"type": ["image"]}, r"the type of a part must be 'text', or of an image 'image_url'"),
    ("a", r"content\[0\] is a string; it must be an object"),
]


@pytest.mark.parametrize(("part", "message"), BAD, ids=lambda value: str(value)[:60])
def test_a_wrong_part_is_named(part: object, message: str) -> None:
    error = refusal(user(part))
    assert error.param == "messages"
    with pytest.raises(ApiError, match=message):
        raise error


@pytest.mark.parametrize("part", [part for part, _ in FORMS])
def test_a_model_of_text_alone_refuses_every_image(part: dict[str, object]) -> None:
    error = refusal(user(part), takes_images=False)
    assert (error.param, error.code) == ("messages", "unsupported_content")
    assert f"messages[0].content[0] is of type {part['type']}, and this model takes text only" in error.message


@pytest.mark.parametrize("kind", ["video", "video_url", "audio", "audio_url", "input_audio", "file"])
@pytest.mark.parametrize("takes_images", [True, False])
def test_what_is_neither_text_nor_image_is_not_supported(kind: str, takes_images: bool) -> None:
    assert refusal(user({"type": kind}), takes_images).code == "unsupported_content"


def test_jinas_objects_stand_among_texts() -> None:
    given = ["a", {"text": "b"}, {"image": URL}, {"image": DATA, "text": "c"}, {"text": None, "image": "AAAA"}]
    found = parse_input(given, 100, takes_images=True)
    assert isinstance(found, Documents)
    assert [each.parts for each in found.values] == [
        ["a"],
        ["b"],
        [ImageReference(URL, "input[2].image")],
        [ImageReference(DATA, "input[3].image"), "c"],
        [ImageReference("data:;base64,AAAA", "input[4].image")],
    ]
    assert found.values[3].message == {"role": "user", "content": [IMAGE_PART, text("c")]}


@pytest.mark.parametrize("takes_images", [True, False])
def test_objects_of_text_alone_are_texts_for_every_model(takes_images: bool) -> None:
    found = parse_input([{"text": "a"}, "b"], 100, takes_images=takes_images)
    assert found == Texts(["a", "b"])


@pytest.mark.parametrize(
    ("value", "takes_images", "message"),
    [
        ([{"image": URL}], False, r"input\[0\] is an image, and this model takes text only"),
        (["a", {"image": URL, "text": "b"}], False, r"input\[1\] is an image"),
        ([{}], True, r"input\[0\] has neither text nor image"),
        ([{"pdf": URL}], True, "has neither text nor image"),
        ([{"text": ""}], True, r"input\[0\].text is an empty string"),
        ([{"text": ["a"]}], True, r"input\[0\].text is a list"),
        ([{"image": 3}], True, r"input\[0\].image is a whole number"),
        ([{"text": "a"}, 3], True, r"input\[1\] is a whole number; beside objects"),
        ([[1, 2], {"text": "a"}], True, r"input\[0\] is a list; beside objects"),
    ],
)
def test_a_wrong_object_is_named(value: object, takes_images: bool, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        parse_input(value, 100, takes_images=takes_images)
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_coheres_parts_keep_their_order() -> None:
    image = {"type": "image_url", "image_url": {"url": URL}}
    found = parts_document([text("a"), image, text("b")], "inputs[4]", takes_images=True)
    assert found == Document(["a", ImageReference(URL, "inputs[4].content[1].image_url"), "b"])
    with pytest.raises(ApiError, match=r"inputs\[4\].content\[0\] is of type image_url, and .* text only"):
        parts_document([image], "inputs[4]", takes_images=False)
