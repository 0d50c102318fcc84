"""config.json with types: a model family reads its numbers here, and a wrong one is refused by file and key."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pooling.errors import CheckpointError

T = TypeVar("T")


class Settings:
    """The values of one JSON object of a checkpoint.

    Families call the same thing by different names (`hidden_size`, `dim`): every reader takes several names and uses
    the first that is there and not null. Without a default a missing value is an error.
    """

    def __init__(self, values: Mapping[str, object], path: Path) -> None:
        self._values = values
        self.path = path

    def __iter__(self) -> Iterator[str]:
        """The names of all values."""
        return iter(self._values)

    def integer(self, *names: str, default: int | None = None) -> int:
        """A whole number of at least 1; raises CheckpointError for anything else."""
        name, value = self._first(names, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(name, value, "a positive whole number")
        return value

    def optional_integer(self, *names: str) -> int | None:
        """The number, or None where it is missing, null or (as some configurations write "none") negative or 0."""
        value = self.get(*names)
        if value is None or (isinstance(value, int) and value <= 0):
            return None
        return self.integer(*names)

    def number(self, *names: str, default: float | None = None) -> float:
        """A number; raises CheckpointError for anything else."""
        name, value = self._first(names, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._wrong(name, value, "a number")
        return float(value)

    def text(self, *names: str, default: str | None = None) -> str:
        """A string; raises CheckpointError for anything else."""
        name, value = self._first(names, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def flag(self, *names: str, default: bool = False) -> bool:
        """True or false; raises CheckpointError for anything else."""
        name, value = self._first(names, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def texts(self, *names: str) -> Sequence[str] | None:
        """A list of strings, or None where it is missing; raises CheckpointError for anything else."""
        value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self._wrong(names[0], value, "a list of strings")
        return value

    def layer_types(self, layers: int) -> Sequence[str] | None:
        """`layer_types` without the ending `_attention`, or None where it is missing.

        Raises:
            CheckpointError: it does not name each of the model's layers.
        """
        types = self.texts("layer_types")
        if types is None:
            return None
        if len(types) != layers:
            raise self.refuse("layer_types", types, f"it must name each of the model's {layers} layers")
        return [name.removesuffix("_attention") for name in types]

    def section(self, name: str) -> "Settings | None":
        """An object within this one, or None where it is missing; raises CheckpointError for anything else."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return Settings(value, self.path)

    def over(self, defaults: Mapping[str, object]) -> "Settings":
        """These values, and defaults for those that are missing or null."""
        stated = {name: value for name, value in self._values.items() if value is not None}
        return Settings({**defaults, **stated}, self.path) if defaults else self

    def get(self, *names: str) -> object:
        """The first value under these names that is not null, else None."""
        return next((self._values[name] for name in names if self._values.get(name) is not None), None)

    def refuse(self, name: str, value: object, advice: str) -> CheckpointError:
        """The error for a value that is well-formed but that this model family does not support."""
        return CheckpointError(f"{self.path} has {name} = {value!r}, which is not supported: {advice}.")

    def _first(self, names: Sequence[str], default: T | None) -> tuple[str, object]:
        found = self.get(*names)
        return names[0], default if found is None else found

    def _wrong(self, name: str, value: object, wanted: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} has {name} = {value!r} where {wanted} belongs: download it again, or correct it."
        )
