"""`millpond inspect`: how a model would be served, and what decided it, without loading it."""

import json

from api.errors import LaunchError
from api.options import Options
from api.serving import model_options
from pooling.errors import PoolingError
from pooling.fetch import local_configuration
from pooling.inspection import Inspection, inspected


def inspect(options: Options, as_json: bool) -> int:
    """Prints what is decided for the model of the options; the exit status.

    Raises:
        LaunchError: there is no such model, it is not supported, or an option does not fit it.
    """
    try:
        directory = local_configuration(options.model, options.revision, options.cache_dir)
        found = inspected(directory, model_options(options))
    except PoolingError as error:
        raise LaunchError(str(error)) from error
    print(json.dumps({**found.facts, "origins": {**found.origins}}, indent=2) if as_json else lines(found))
    return 0


def lines(found: Inspection) -> str:
    """One line for each fact that applies: its name, its value, and in brackets what decided it."""
    shown = {
        name: _written(value)
        for name, value in found.facts.items()
        if (value is not None or name in found.origins) and value != []
    }
    names = max(map(len, shown)) + 2
    values = max(len(value) for name, value in shown.items() if name in found.origins) + 2
    return "\n".join(
        f"{name:<{names}}{value:<{values}}({found.origins[name]})"
        if name in found.origins
        else f"{name:<{names}}{value}"
        for name, value in shown.items()
    )


def _written(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 1_000_000 else str(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
