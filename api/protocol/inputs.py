"""The `input` field that several dialects share: a string, a list of strings, token ids, or a list of lists of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.errors import ApiError, bad_request

MAX_INPUTS = 2_048
"""Inputs in one call: OpenAI's own limit, which its clients count on."""

SHAPES = "a string, a list of strings, a list of token ids, or a list of lists of token ids"

WANTED = {
    "input": f"{SHAPES}, all of one kind",
    "messages": "a list of messages, or a list of token ids",
    "tokens": "a list of token ids",
    "ids": "a list of token ids, or a list of lists of them",
    "inputs": "a text, token ids, or a list of texts and of lists of token ids",
}
"""What a field that may hold token ids is to be."""


@dataclass(frozen=True)
class Texts:
    """Inputs to tokenise."""

    values: Sequence[str]


@dataclass(frozen=True)
class Tokens:
    """Inputs that are token ids already."""

    values: Sequence[Sequence[int]]


Inputs = Texts | Tokens


def are_documents(value: object) -> bool:
    """Whether any of the inputs is an object, as texts and images are; not whether it is right."""
    first = value[:MAX_INPUTS] if isinstance(value, list) else [value]
    return any(isinstance(each, dict) for each in first)


def parse_inputs(value: object, vocabulary_size: int) -> Inputs:
    """The inputs of a request, or a 400 that says which of them is wrong and why.

    Raises:
        ApiError: not one of the four shapes, empty, too many, or an id that the tokenizer does not have.
    """
    if isinstance(value, str):
        return Texts([_text(value, "input")])
    if not isinstance(value, list):
        raise bad_request(f"input must be {SHAPES}; it is {kind_of(value)}.", "input", "invalid_type")
    if value and type(value[0]) is int:
        return Tokens([token_ids(value, "input", vocabulary_size)])
    check_count(value, "input")
    if isinstance(value[0], str):
        return Texts([_text(each, f"input[{index}]") for index, each in enumerate(value)])
    if isinstance(value[0], list):
        return Tokens([token_ids(each, f"input[{index}]", vocabulary_size) for index, each in enumerate(value)])
    raise _wrong_shape(value[0], "input[0]")


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _wrong_shape(value, place)
    if not value:
        raise bad_request(f"{place} is an empty string: leave it out.", "input", "empty")
    return value


def token_ids(value: object, place: str, vocabulary_size: int) -> Sequence[int]:
    """A list of the model's token ids; raises a 400 that names the wrong entry of `place`."""
    param = place.partition("[")[0]
    if not isinstance(value, list):
        raise _wrong_shape(value, place)
    if not value:
        raise bad_request(f"{place} is an empty list: send at least one token id.", param, "empty")
    for position, each in enumerate(value):
        # A bool is an int to isinstance.
        if type(each) is not int:
            raise _wrong_shape(each, f"{place}[{position}]")
        if not 0 <= each < vocabulary_size:
            raise bad_request(
                f"{place}[{position}] is token id {each}, outside this model's vocabulary of {vocabulary_size} "
                "(0 is the first). Ids must come from the served model's own tokenizer: send text instead "
                "(in LangChain, check_embedding_ctx_length=False).",
                param,
                "token_id_out_of_range",
            )
    return value


def _wrong_shape(value: object, place: str) -> ApiError:
    param = place.partition("[")[0]
    return bad_request(f"{place} is {kind_of(value)}; {param} must be {WANTED[param]}.", param, "invalid_type")


def kind_of(value: object) -> str:
    """What a JSON value is, in the words of an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "a whole number", float: "a fraction", list: "a list", dict: "an object"}
    return names[type(value)]


def check_count(values: Sequence[object], field: str) -> None:
    """Raises a 400 when a list is empty, or longer than a call may have."""
    if not values:
        raise bad_request(f"{field} is an empty list: send at least one.", field, "empty")
    if len(values) > MAX_INPUTS:
        raise bad_request(
            f"{field} has {len(values)} entries, over the {MAX_INPUTS} of one call: send several calls.",
            field,
            "too_many_inputs",
        )


def nonempty_text(value: object, place: str) -> str:
    """A text; raises a 400 that says what stands in its place."""
    param = place.partition("[")[0].partition(".")[0]
    if not isinstance(value, str):
        raise bad_request(f"{place} is {kind_of(value)}; it must be a string.", param, "invalid_type")
    if not value:
        raise bad_request(f"{place} is an empty string: leave it out.", param, "empty")
    return value


def nonempty_texts(value: object, field: str) -> list[str]:
    """A list of texts, at least one; raises a 400 that names the wrong one."""
    if not isinstance(value, list):
        raise bad_request(f"{field} is {kind_of(value)}; it must be a list of strings.", field, "invalid_type")
    check_count(value, field)
    return [nonempty_text(each, f"{field}[{index}]") for index, each in enumerate(value)]
