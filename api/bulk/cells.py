"""The values of a row under the roles that they play, and of which kinds they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.bulk.images import image_parts
from api.bulk.rows import RowError
from api.bulk.values import (
    answer_of,
    is_conversation,
    text_of,
    texts_of,
    turns_of,
    unfolded,
    value_at,
)


@dataclass(frozen=True)
class Cells:
    """The values of a row by role.

    Attributes:
        columns: of each role its column.
        step_tag: what stands behind each step of a solution.
    """

    values: Mapping[str, Any]
    columns: Mapping[str, str]
    step_tag: str | None = None

    def __getitem__(self, role: str) -> Any:
        """Of a role that the form needs; RowError where the row lacks the column."""
        try:
            return value_at(self.values, self.columns[role])
        except KeyError:
            raise RowError(self.columns[role], "is missing") from None

    def get(self, role: str) -> Any:
        """Of a role that the form may have; None where it has not."""
        try:
            return value_at(self.values, self.columns[role])
        except KeyError:
            return None

    def text(self, role: str) -> str:
        """A string."""
        return text_of(self[role], self.columns[role])

    def texts(self, role: str) -> list[str]:
        """A list of strings."""
        return texts_of(self[role], self.columns[role])

    def before(self, role: str) -> list[dict[str, Any]]:
        """The turns before an answer, behind the system's words where the row has them."""
        return self.behind_system(self.with_images(turns_of(self[role], self.columns[role])))

    def with_images(self, said: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages with the row's images, where it has some, before the text of the first that is the user's."""
        value = self.get("image")
        place = next((number for number, each in enumerate(said) if each["role"] == "user"), None)
        if value is None or place is None:
            return said
        content = said[place].get("content")
        texts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
        parts = [*image_parts(value, self.columns["image"]), *texts]
        return [*said[:place], {**said[place], "content": parts}, *said[place + 1 :]]

    def behind_system(self, said: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages behind what the row has for the system to say, where they do not begin with such a message."""
        system = self.get("system")
        if not system or said[0]["role"] == "system":
            return said
        return [{"role": "system", "content": text_of(system, self.columns["system"])}, *said]

    def answer(self, role: str) -> list[dict[str, Any]]:
        """The turns of an answer."""
        return answer_of(self[role], self.columns[role])


def are(kind: Callable[[object], bool], *roles: str) -> Callable[[Cells], bool]:
    """Tells whether the values of all these roles are of a kind."""
    return lambda cells: all(kind(cells[role]) for role in roles)


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def is_list(value: object) -> bool:
    """A list of strings, or of objects with texts."""
    value = unfolded(value)
    return isinstance(value, list) and all(isinstance(each, str | dict) for each in value)


def is_said(value: object) -> bool:
    """A string or messages."""
    return isinstance(value, str) or is_conversation(value)


def are_steps(cells: Cells) -> bool:
    """A list of strings under `steps`, or under `completions` with a list of as many labels."""
    steps, labels = unfolded(cells["steps"]), unfolded(cells.get("labels"))
    if not is_said(cells["prompt"]) or not isinstance(steps, list) or not all(map(is_text, steps)):
        return False
    return cells.columns["steps"] != "completions" or (isinstance(labels, list) and len(labels) == len(steps))
