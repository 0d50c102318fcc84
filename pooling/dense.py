"""Sentence Transformers' Dense modules: linear layers between the pooler and the result."""

from collections.abc import Callable, Mapping
from typing import Self

import paddle
from paddle.nn import functional

from pooling.checkpoint import SINGLE_WEIGHTS, verify_safetensors
from pooling.errors import CheckpointError
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear
from pooling.sentence_transformers import Dense
from pooling.stored import WeightFile
from pooling.weights import wrong_shape

ACTIVATIONS: Mapping[str, Callable[[paddle.Tensor], paddle.Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": paddle.tanh,
    "ReLU": functional.relu,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
    "Sigmoid": functional.sigmoid,
}


class DenseModule(Layer):
    """rows [rows, inputs] -> activation(linear(rows)) [rows, outputs]."""

    def __init__(self, dense: Dense) -> None:
        """Raises CheckpointError for an activation that is not in ACTIVATIONS."""
        super().__init__()
        if dense.activation not in ACTIVATIONS:
            raise CheckpointError(
                f"{dense.directory / 'config.json'} has activation_function {dense.activation}, which is not "
                f"supported: use a model with one of {', '.join(ACTIVATIONS)}."
            )
        self.linear = Linear(dense.inputs, dense.outputs, bias=dense.bias)
        self.activation = ACTIVATIONS[dense.activation]

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.activation(self.linear(rows))

    @classmethod
    def load(cls, dense: Dense) -> Self:
        """The module with its weights.

        Raises:
            CheckpointError: the weights are missing, broken or of another shape than the configuration says.
        """
        module = cls(dense)
        path = dense.directory / SINGLE_WEIGHTS
        verify_safetensors(path)
        wanted = {"linear.weight"} | ({"linear.bias"} if dense.bias else set())
        with WeightFile(path) as file:
            for tensor in file.tensors:
                if tensor.name not in wanted:
                    raise CheckpointError(
                        f"{path} holds {tensor.name}, which is no part of a Dense module: replace it."
                    )
                parameter = tensor.name.rpartition(".")[2]
                if not module.linear.accepts(parameter, tensor.shape):
                    raise wrong_shape(tensor, module.linear.stored_shape(parameter))
                module.linear.load(parameter, tensor)
                wanted.remove(tensor.name)
        if wanted:
            raise CheckpointError(f"{path} lacks {min(wanted)}: download it again.")
        return module
