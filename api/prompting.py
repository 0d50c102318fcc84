"""Which of a checkpoint's prompts fits what a caller wants its vectors for, in the words of several dialects."""

from api.errors import bad_request
from api.serving import ServedModel

_QUERY = ("search_query", "query", "retrieval.query")
_DOCUMENT = ("search_document", "document", "passage", "retrieval.passage")

PURPOSES = {
    "search_query": _QUERY,
    "search_document": _DOCUMENT,
    "classification": ("classification",),
    "clustering": ("clustering", "separation"),
    "retrieval.query": _QUERY,
    "retrieval.passage": _DOCUMENT,
    "text-matching": ("text-matching", "sts"),
    "separation": ("separation", "clustering"),
}
"""Cohere's input_type and Jina's task, with the names that checkpoints give to the prompts for them, the best first."""


def prompt_for(model: ServedModel, purpose: str | None, field: str) -> str:
    """The text before each text that is embedded for this purpose.

    A purpose that the dialects know and the checkpoint has no prompt for needs none: models without prompts read
    queries and documents alike. None is the checkpoint's default prompt.

    Args:
        field: what the request calls it.

    Raises:
        ApiError: 400 that lists the purposes and prompts, when it is neither.
    """
    if purpose is None:
        return model.prompt(None)
    prompts = model.spec.prompts.texts
    if purpose in prompts:
        return prompts[purpose]
    if purpose not in PURPOSES:
        own = f", or of its prompts {', '.join(prompts)}" if prompts else "; it has no prompts of its own"
        raise bad_request(
            f"{field} is {purpose!r}; for {model.name} it must be one of {', '.join(PURPOSES)}{own}.", field
        )
    by_name = {name.lower(): text for name, text in prompts.items()}
    return next((by_name[name] for name in PURPOSES[purpose] if name in by_name), "")
