"""Functions over a model's live parameters as compiled programs, which run on oneDNN on a CPU."""

from collections.abc import Callable, Sequence

import paddle

Signature = Sequence[paddle.static.InputSpec]

Program = Callable[[list[paddle.Tensor], list[paddle.Tensor]], list[paddle.Tensor]]
"""From tensors, and those of an attention index (`flattened`), to tensors."""


def as_program(function: Program, tensors: Signature, index: Signature) -> Program:
    """A function as one program for inputs of any size, compiled at its first use. Call it from one thread.

    It must use every tensor that it is given: a program with an input that nothing uses crashes (Paddle 3.3.1).
    """

    def copied(tensors: list[paddle.Tensor], index: list[paddle.Tensor]) -> list[paddle.Tensor]:
        # The program's results must come from operators that oneDNN does not replace: Paddle 3.3.1 goes on reading the
        # operator that was there before, at each run, and crashes once its memory is used for something else.
        return [paddle.assign(found) for found in function(tensors, index)]

    # to_static knows lists, but forgets what a named tuple was.
    program = paddle.jit.to_static(copied, input_spec=[list(tensors), list(index)], full_graph=True)
    # A function counts as in training, whatever its model is: every intermediate result would be kept.
    program.eval()
    compiled: Program = program
    return compiled
