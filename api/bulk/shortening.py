"""Long text in little room: its middle is left out, and how much that was is said where there is room for it."""


def shortened(text: str, limit: int, keep: str = "") -> str:
    """The text in at most `limit` characters: controls but those to keep as escapes, the middle left out and marked."""
    shown = "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )
    if len(shown) <= limit:
        return shown
    room = limit - len(_mark(len(shown)))
    mark = _mark(len(shown) - room) if room >= limit // 2 else "…"
    room = max(0, limit - len(mark))
    end = room // 2
    return shown[: room - end] + mark + shown[len(shown) - end :]


def _mark(left_out: int) -> str:
    return f" … {left_out:,} more … "
