"""Long text in little room: its middle is left out, and how much that was is said where there is room for it."""


def shortened(text: str, limit: int) -> str:
    """The text in one line of at most `limit` characters: controls as escapes, the middle left out and marked."""
    shown = _escaped(text) if len(text) <= limit else text
    if len(shown) <= limit:
        return shown
    mark = f" … {len(text) - limit:,} more … "
    if len(text) <= limit or len(mark) > limit // 2:
        mark = "…"
    room = max(0, limit - len(mark))
    end = room // 2
    # Escapes are longer than what they stand for: what they push out is left out as well.
    return _escaped(text[: room - end])[: room - end] + mark + (_escaped(text[-end:])[-end:] if end else "")


def _escaped(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
