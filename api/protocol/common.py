"""What the requests of FastDeploy's and vLLM's dialect share: the fields that all take, and those of a conversation."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic.config import JsonDict
from pydantic.json_schema import WithJsonSchema

from api.errors import bad_request
from api.protocol.documents import Document, jina_document
from api.protocol.inputs import are_documents, check_count
from api.sequences import Truncation
from pooling.tokenizing import Side


class WireRequest(BaseModel):
    """What a client sends. Fields that are not named are accepted and ignored, as OpenAI's clients expect."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def parse(cls, body: object) -> Self:
        """The request, or a 400 that names the wrong field.

        Raises:
            ApiError: a field has the wrong type or value.
        """
        if not isinstance(body, dict):
            raise bad_request("The body must be a JSON object.", code="invalid_type")
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = str(first["loc"][0])
            raise bad_request(f"{field}: {first['msg']}.", field) from error


class PoolingRequest(WireRequest):
    """What FastDeploy's and vLLM's routes have in common."""

    model: StrictStr | None = Field(None, description="The served model's name; empty or `default` mean it too.")
    user: StrictStr | None = Field(None, description="Taken and not used.")
    truncate_prompt_tokens: StrictInt | None = Field(
        None,
        ge=-1,
        description="Longer inputs are cut to so many tokens; -1 is the model's maximum. Absent: too long is an error.",
    )
    truncation_side: Literal["left", "right"] | None = Field(
        None, description="Where too long inputs are cut; absent: right, and left for rewards, which stand at the end."
    )
    priority: StrictInt = Field(
        0,
        ge=-(2**31),
        lt=2**31,
        description="Among your own requests in a lane, the lower the earlier.",
    )
    request_id: StrictStr | None = Field(None, description="Comes back as the reply's id; absent or empty: a new one.")

    def truncation(self, side: Side = "right") -> Truncation:
        """What it says about inputs that are too long; `side` where it does not name one."""
        return Truncation(self.truncate_prompt_tokens, self.truncation_side or side)

    def check_cuts_ends(self) -> None:
        """Raises a 400 when pairs of texts are to be cut at their beginning."""
        if self.truncation_side == "left":
            raise bad_request(
                "truncation_side is left, and of a query with its document the document's end is cut: leave it out.",
                "truncation_side",
            )


_PART = {
    "type": "object",
    "properties": {
        "type": {"enum": ["text", "image_url", "input_image", "image"]},
        "text": {"type": "string"},
        "image_url": {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"url": {"type": "string"}, "detail": {"type": "string"}}},
            ]
        },
        "image": {"type": "string"},
    },
    "required": ["type"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"type": "string"},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]},
    },
    "required": ["role"],
}

Messages = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _MESSAGE, "minItems": 1},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            ]
        }
    ),
]
"""Checked by `parse_messages`, which says what is wrong in words of its own."""


class ConversationRequest(PoolingRequest):
    """What a request with `messages` may say about how they become a sequence."""

    messages: Messages = Field(None, description="One conversation, or its token ids.")
    add_generation_prompt: StrictBool = Field(
        False, description="Whether the text ends with the beginning of the assistant's next message."
    )
    continue_final_message: StrictBool = Field(
        False, description="Whether the last message is left open, without the tokens that end it."
    )
    chat_template: Any = Field(
        None, description="Instead of the checkpoint's own; only taken with --trust-request-chat-template."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Further variables for the chat template.")
    mm_processor_kwargs: dict[str, Any] | None = Field(
        None,
        description="How images are processed, of models that take them: image_size, min_pixels, max_pixels, size; not "
        "used by others.",
    )


ONE_OF_BOTH: JsonDict = {"oneOf": [{"required": ["input"]}, {"required": ["messages"]}]}
"""What OpenAPI says of a request in two forms."""


class InputRequest(ConversationRequest):
    """A request in two forms: `input` is one to 2,048 inputs, `messages` is one conversation."""

    input: Any = Field(
        None,
        description="A text, a list of texts, token ids, or a list of lists of token ids; at most 2,048 inputs. Or, as "
        "Jina has them, objects with a text or with the URL of an image.",
        json_schema_extra={
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 2048},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"text": {"type": "string"}, "image": {"type": "string"}},
                    },
                    "minItems": 1,
                    "maxItems": 2048,
                },
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "minItems": 1,
                    "maxItems": 2048,
                },
            ]
        },
    )
    messages: Messages = Field(None, description="One conversation, or its token ids, in place of input.")
    add_special_tokens: StrictBool | None = Field(
        None, description="Whether the tokenizer frames texts as the model expects; absent: yes, and no for messages."
    )

    def documents(self) -> list[Document]:
        """The inputs, where they are texts and images (`are_documents`).

        Raises:
            ApiError: 400 that names the one that is wrong, or there are too many.
        """
        values = self.input if isinstance(self.input, list) else [self.input]
        check_count(values, "input")
        return [jina_document(each, f"input[{index}]") for index, each in enumerate(values)]

    @property
    def holds_documents(self) -> bool:
        """Whether it is texts and images; raises as `is_conversation` does."""
        return not self.is_conversation and are_documents(self.input)

    @property
    def holds_texts(self) -> bool:
        """Whether it is texts, as far as the first tells; raises as `is_conversation` does."""
        first = self.input[0] if isinstance(self.input, list) and self.input else self.input
        return not self.is_conversation and isinstance(first, str)

    @property
    def is_conversation(self) -> bool:
        """Which of the two forms it has.

        Raises:
            ApiError: 400 when it has both or none.
        """
        if self.messages is None:
            if "input" not in self.model_fields_set:
                raise bad_request("Neither input nor messages is there: send one of them.", "input", "missing")
            return False
        if self.input is not None:
            raise bad_request("Both input and messages are there: send one of them.", "messages")
        return True


def list_summary(reply_id: str, created: int, model: str, tokens: int) -> dict[str, Any]:
    """What a reply with a list of results says beside its data."""
    return {
        "id": reply_id,
        "object": "list",
        "created": created,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
