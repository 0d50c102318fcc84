"""Where the parts of a batch lie in the storage, until its end."""


def folder(batch_id: str) -> str:
    """All that a batch leaves while it runs."""
    return f"batches/{batch_id}"


def index_name(batch_id: str) -> str:
    """How its input is cut."""
    return f"{folder(batch_id)}/index.json"


def part_name(batch_id: str, chunk: str, token: str, kind: str) -> str:
    """What a claim made of a chunk: its `output` or its `errors`."""
    return f"{folder(batch_id)}/parts/{chunk}.{token}.{kind}"
