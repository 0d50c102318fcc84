"""`POST /tokenize`, `/detokenize` and `/decode`, in the forms of vLLM and of text-embeddings-inference."""

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr
from pydantic.config import JsonDict

from api.errors import ApiError, bad_request
from api.protocol.common import ConversationRequest, Messages, WireRequest
from api.protocol.inputs import MAX_INPUTS, check_count, kind_of, token_ids
from pooling.tokenizing import Token

MAX_CHARACTERS = 1_000_000
"""Of all texts of a call: a token takes a hundred times its text in a reply that names each one's place."""

MAX_TOKENS = 1_000_000

TOKENIZE_EXAMPLES: JsonDict = {
    "vLLM, a text": {"value": {"model": "default", "prompt": "A millpond stores water.", "return_token_strs": True}},
    "vLLM, a conversation": {"value": {"messages": [{"role": "user", "content": "What does a millpond store?"}]}},
    "text-embeddings-inference": {"value": {"inputs": ["A millpond stores water.", "Rain falls."]}},
}


class TokenizeRequest(ConversationRequest):
    """`POST /tokenize` as vLLM takes it, in two forms: `prompt` is a text, `messages` is a conversation."""

    prompt: Any = Field(None, description="A text.", json_schema_extra={"type": "string"})
    messages: Messages = Field(None, description="One conversation, in place of prompt.")
    add_generation_prompt: StrictBool | None = Field(  # type: ignore[assignment]
        None, description="Whether the text ends with the beginning of the assistant's next message; absent: yes."
    )
    add_special_tokens: StrictBool | None = Field(
        None, description="Whether the tokenizer frames texts as the model expects; absent: yes, and no for messages."
    )
    return_token_strs: StrictBool | None = Field(None, description="Whether the reply has the tokens' names.")
    tools: Any = Field(None, description="Not taken: put them into chat_template_kwargs. May be null.")

    def check(self) -> None:
        """Raises a 400 when it has both forms or none, or what vLLM knows and nobody does here."""
        if self.tools is not None:
            raise bad_request("tools is not taken: put them into chat_template_kwargs.", "tools")
        if self.truncate_prompt_tokens is not None:
            raise bad_request(
                "truncate_prompt_tokens is for routes that compute, and all tokens are told here: leave it out.",
                "truncate_prompt_tokens",
            )
        if (self.prompt is None) == (self.messages is None):
            which = "None of prompt, messages and inputs is" if self.prompt is None else "Both prompt and messages are"
            raise bad_request(f"{which} there: send one of them.", "prompt", "missing")

    @property
    def text(self) -> str:
        """The text of `prompt`.

        Raises:
            ApiError: 400, it is none, or too long.
        """
        if not isinstance(self.prompt, str):
            raise bad_request(f"prompt is {kind_of(self.prompt)}; it must be a string.", "prompt", "invalid_type")
        return _within("prompt", [self.prompt])[0]


class InputsRequest(WireRequest):
    """`POST /tokenize` as text-embeddings-inference takes it."""

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    inputs: Any = Field(
        ...,
        description=f"A text, or a list of texts; at most {MAX_INPUTS}.",
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_INPUTS},
            ]
        },
    )
    add_special_tokens: StrictBool = Field(True, description="Whether the tokenizer frames texts.")
    prompt_name: StrictStr | None = Field(
        None, description="Which of the checkpoint's prompts stands before each text; null is its default, if any."
    )

    @property
    def texts(self) -> list[str]:
        """The texts.

        Raises:
            ApiError: 400 that says which of them is wrong and why.
        """
        values = [self.inputs] if isinstance(self.inputs, str) else self.inputs
        if not isinstance(values, list):
            raise bad_request(
                f"inputs is {kind_of(values)}; it must be a string or a list of strings.", "inputs", "invalid_type"
            )
        check_count(values, "inputs")
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise bad_request(
                    f"inputs[{index}] is {kind_of(value)}; it must be a string.", "inputs", "invalid_type"
                )
        return _within("inputs", values)


class DetokenizeRequest(WireRequest):
    """`POST /detokenize`."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "default", "tokens": [5, 6, 7]}})

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    tokens: Any = Field(
        ...,
        description="Token ids.",
        json_schema_extra={"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": MAX_TOKENS},
    )

    def ids(self, vocabulary_size: int) -> Sequence[int]:
        """The token ids, perhaps none; raises a 400 that names the wrong one."""
        return [] if self.tokens == [] else _ids(self.tokens, "tokens", vocabulary_size)


class DecodeRequest(WireRequest):
    """`POST /decode`."""

    model_config = ConfigDict(json_schema_extra={"example": {"ids": [5, 6, 7]}})

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    ids: Any = Field(
        ...,
        description=f"Token ids, or a list of lists of them; at most {MAX_INPUTS} lists.",
        json_schema_extra={
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": MAX_TOKENS},
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "minItems": 1,
                    "maxItems": MAX_INPUTS,
                },
            ]
        },
    )
    skip_special_tokens: StrictBool = Field(True, description="Whether special tokens are left out of the texts.")

    def lists(self, vocabulary_size: int) -> list[Sequence[int]]:
        """The token ids of each text; raises a 400 that names the wrong one."""
        if not isinstance(self.ids, list) or not self.ids or not isinstance(self.ids[0], list):
            return [_ids(self.ids, "ids", vocabulary_size)]
        check_count(self.ids, "ids")
        return [_ids(each, f"ids[{index}]", vocabulary_size) for index, each in enumerate(self.ids)]


class TokenizeReply(BaseModel):
    """What `POST /tokenize` answers to `prompt` and `messages`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class TextToken(BaseModel):
    """A token of a text: `start` and `stop` are bytes of its UTF-8, and null for a special token."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DetokenizeReply(BaseModel):
    """What `POST /detokenize` answers."""

    prompt: str


class TeiError(BaseModel):
    """An error in the form of text-embeddings-inference."""

    error: str
    error_type: str


def tei_error(error: ApiError) -> tuple[int, dict[str, Any]]:
    """The form of text-embeddings-inference: `{error, error_type}`."""
    if error.status == 429:
        return 429, {"error": error.message, "error_type": "Overloaded"}
    if error.status >= 500:
        return error.status, {"error": error.message, "error_type": "Unhealthy" if error.status == 503 else "Backend"}
    if error.code == "task_not_supported":
        return 424, {"error": error.message, "error_type": "Backend"}
    if error.code == "invalid_json":
        return 400, {"error": error.message, "error_type": "Validation"}
    if error.code == "empty":
        return 400, {"error": error.message, "error_type": "Empty"}
    status = 422 if error.status == 400 else error.status
    return status, {"error": error.message, "error_type": "Validation"}


def tokens_response(texts: Sequence[Sequence[Token]]) -> bytes:
    """The reply to `inputs` as JSON bytes: the tokens of each text."""
    return orjson.dumps(texts)


def _ids(value: object, place: str, vocabulary_size: int) -> Sequence[int]:
    if isinstance(value, list) and len(value) > MAX_TOKENS:
        raise bad_request(
            f"{place} has {len(value)} token ids, over the {MAX_TOKENS} of one call: send several calls.",
            place.partition("[")[0],
            "too_many_inputs",
        )
    return token_ids(value, place, vocabulary_size)


def _within(field: str, texts: list[str]) -> list[str]:
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise bad_request(
            f"{field} has {characters} characters, over the {MAX_CHARACTERS} of one call: send several calls.",
            field,
            "too_many_inputs",
        )
    return texts
