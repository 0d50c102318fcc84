"""One file a model family, written in the order of the data, over the small parts in `pooling.layers`."""

import importlib

from pooling.architectures import ARCHITECTURES
from pooling.models.interface import PoolingModel


def model_class(architecture: str) -> type[PoolingModel]:
    """The model class for an architecture of `pooling.architectures`; only its family's file is loaded."""
    module, name = ARCHITECTURES[architecture]
    found: type[PoolingModel] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found
