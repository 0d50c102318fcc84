"""What was made lately and may be asked for again, within a number of bytes: the longest unused goes first."""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by their keys, of at most so many bytes together. Use it from one thread at a time.

    Attributes:
        bytes: of all that is kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.bytes = 0
        self._most_bytes = most_bytes
        self._values: OrderedDict[bytes, tuple[T, int]] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        """The value of a key, which counts as used; None where there is none any more."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def keep(self, key: bytes, value: T, size: int) -> None:
        """Keeps a value of so many bytes, unless it is larger than all that may be kept, or is there already."""
        if key in self._values or size > self._most_bytes:
            return
        self._values[key] = (value, size)
        self.bytes += size
        while self.bytes > self._most_bytes:
            _, (_, oldest) = self._values.popitem(last=False)
            self.bytes -= oldest
