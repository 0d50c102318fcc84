"""Messages, and documents of Jina and Cohere: which images stand where, and what is said of those that are wrong."""

import pytest

from api.errors import ApiError
from api.media.references import ImageReference
from api.protocol.documents import Document, Documents, parse_input, parts_document
from api.protocol.inputs import Texts
from api.protocol.messages import Conversation, parse_messages

URL = "https://example.com/a.png"
DATA = "data:image/png;base64,AAAA"
IMAGE = {"type": "image"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*parts: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": list(parts)}]


def conversation(messages: object) -> Conversation:
    found = parse_messages(messages, 100)
    assert isinstance(found, Conversation)
    return found


FORMS: list[tuple[dict[str, object], str]] = [
    ({"type": "image_url", "image_url": {"url": URL}}, "image_url.url"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, "image_url.url"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": None}}, "image_url.url"),
    ({"type": "image_url", "image_url": URL}, "image_url"),
    ({"type": "input_image", "image_url": URL, "detail": "high"}, "image_url"),
    ({"type": "image", "image": URL}, "image"),
    ({"type": "image", "image": {"url": URL}}, "image.url"),
]


@pytest.mark.parametrize(("part", "key"), FORMS, ids=lambda value: str(value)[:60])
def test_an_image_part_of_every_form_is_an_image_in_its_place(part: dict[str, object], key: str) -> None:
    found = conversation(user(text("what is it?"), part))
    assert found.images == [ImageReference(URL, f"messages[0].content[1].{key}")]
    assert found.messages == user(text("what is it?"), IMAGE)


def test_images_of_all_messages_come_in_order_and_a_message_may_have_nothing_else() -> None:
    first, second = {"type": "image", "image": URL}, {"type": "image_url", "image_url": DATA}
    found = conversation([*user(first, text("a"), second), {"role": "assistant", "content": "b"}, *user(second)])
    assert [(each.url, each.place) for each in found.images] == [
        (URL, "messages[0].content[0].image"),
        (DATA, "messages[0].content[2].image_url"),
        (DATA, "messages[2].content[0].image_url"),
    ]
    assert found.messages[2]["content"] == [IMAGE]


def test_a_text_part_with_an_image_of_null_as_data_sets_write_it_is_a_text() -> None:
    assert conversation(user({**text("a"), "image": None})).messages == user(text("a"))


def test_what_a_caller_sent_is_left_as_it_was() -> None:
    sent = user({"type": "image", "image": URL}, {**text("a"), "image": None})
    conversation(sent)
    assert sent == user({"type": "image", "image": URL}, {**text("a"), "image": None})


BAD: list[tuple[object, str]] = [
    ({"type": "image_url"}, r"content\[0\].image_url is null; it must be the URL of an image"),
    ({"type": "image_url", "image_url": {}}, r"content\[0\].image_url.url is null"),
    ({"type": "image_url", "image_url": {"url": ["a"]}}, r"content\[0\].image_url.url is a list"),
    ({"type": "image", "image": ""}, r"content\[0\].image is a string; it must be the URL"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": "huge"}}, "detail is 'huge'; .* auto, low, high"),
    ({"type": "image_url", "image_url": {"url": URL, "detail": []}}, r"detail is \[\]"),
    ({"type": "file", "file": {}}, "is of type file, which is not taken"),
    ({"type": ["image"]}, "the type of a part must be 'text' or 'image_url'"),
    ("a", r"content\[0\] is a string; it must be an object"),
]


@pytest.mark.parametrize(("part", "message"), BAD, ids=lambda value: str(value)[:60])
def test_a_wrong_part_is_named_in_messages_and_in_coheres_inputs(part: object, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        parse_messages(user(part), 100)
    assert (caught.value.status, caught.value.param) == (400, "messages")
    with pytest.raises(ApiError, match=message) as caught:
        parts_document([part], "inputs[4]")
    assert (caught.value.status, caught.value.param) == (400, "inputs")


def test_jinas_objects_stand_among_texts() -> None:
    given = ["a", {"text": "b"}, {"image": URL}, {"image": DATA, "text": "c"}, {"text": None, "image": "AAAA"}]
    found = parse_input(given, 100)
    assert isinstance(found, Documents)
    assert [list(each.parts) for each in found.values] == [
        [text("a")],
        [text("b")],
        [IMAGE],
        [IMAGE, text("c")],
        [IMAGE],
    ]
    assert [list(each.images) for each in found.values] == [
        [],
        [],
        [ImageReference(URL, "input[2].image")],
        [ImageReference(DATA, "input[3].image")],
        [ImageReference("data:;base64,AAAA", "input[4].image")],
    ]
    assert found.values[3].message == {"role": "user", "content": [IMAGE, text("c")]}


def test_objects_of_text_alone_are_texts() -> None:
    assert parse_input([{"text": "a"}, "b"], 100) == Texts(["a", "b"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{}], r"input\[0\] has neither text nor image"),
        ([{"pdf": URL}], "has neither text nor image"),
        ([{"text": ""}], r"input\[0\].text is an empty string"),
        ([{"text": ["a"]}], r"input\[0\].text is a list"),
        ([{"image": 3}], r"input\[0\].image is a whole number"),
        ([{"text": "a"}, 3], r"input\[1\] is a whole number; beside objects"),
        ([[1, 2], {"text": "a"}], r"input\[0\] is a list; beside objects"),
    ],
)
def test_a_wrong_object_is_named(value: object, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        parse_input(value, 100)
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_coheres_parts_keep_their_order() -> None:
    image = {"type": "image_url", "image_url": {"url": URL}}
    found = parts_document([text("a"), image, text("b")], "inputs[4]")
    assert found == Document([text("a"), IMAGE, text("b")], [ImageReference(URL, "inputs[4].content[1].image_url.url")])
    assert found.text == "a\nb"
