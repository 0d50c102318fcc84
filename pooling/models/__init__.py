"""One file a model family, written in the order of the data, over the small parts in `pooling.layers`."""

import importlib

from pooling.architectures import Family
from pooling.models.interface import PoolingModel


def model_class(family: Family) -> type[PoolingModel]:
    """The model class of a family of `pooling.architectures`; only its file is loaded."""
    found: type[PoolingModel] = getattr(importlib.import_module(f"{__name__}.{family.module}"), family.model)
    return found
