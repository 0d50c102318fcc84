"""Which models there are, by the architecture name in config.json; importing this loads no model code."""

from collections.abc import Mapping

from pooling.errors import CheckpointError

# Architecture -> module in pooling.models, and class. The heads of the masked-language and pre-training classes stay on
# the disk.
ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "BertModel": ("bert", "BertForPooling"),
    "BertForMaskedLM": ("bert", "BertForPooling"),
    "BertForPreTraining": ("bert", "BertForPooling"),
}


def known_architecture(names: object) -> str:
    """The first of a checkpoint's architectures that Millpond can run.

    Args:
        names: what config.json has under "architectures"; anything but a list counts as empty.

    Raises:
        CheckpointError: none of them is known; the message lists those that are.
    """
    candidates = [str(name) for name in names] if isinstance(names, list) else []
    for name in candidates:
        if name in ARCHITECTURES:
            return name
    found = ", ".join(candidates) or "no name"
    raise CheckpointError(
        f"config.json gives the architecture as {found}, which is not supported: use a model with one of "
        f"{', '.join(sorted(ARCHITECTURES))}."
    )
