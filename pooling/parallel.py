"""Tensor parallelism (Shoeybi et al. 2019, Megatron-LM): which part of each weight this process holds.

A process is one rank of a group for its whole life. Layers ask here for their part while they are built, and call
`summed` where the parts of a result have to be added up. A process that joined no group is the only rank of its own.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import paddle

from pooling.errors import OptionError

OPTION = "--tensor-parallel-size"


@dataclass(frozen=True)
class Group:
    """A group of processes that hold one model together, as one of them sees it.

    Attributes:
        rank: this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int, what: str) -> slice:
        """This rank's equal part of `count` things.

        Raises:
            OptionError: they cannot be shared out equally; the message names them by `what`.
        """
        if count % self.size:
            raise OptionError(f"{OPTION} {self.size} does not divide this model's {count} {what}: use a divisor.")
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def share_of_heads(self, heads: int, kv_heads: int) -> tuple[slice, slice]:
        """This rank's query heads, and its key and value heads; raises as `share` and `share_of_kv_heads` do."""
        return self.share(heads, "attention heads"), self.share_of_kv_heads(kv_heads)

    def share_of_kv_heads(self, count: int) -> slice:
        """This rank's key and value heads: a part of them, or one that other ranks hold too.

        Raises:
            OptionError: neither the heads nor the ranks are a multiple of the other.
        """
        if count % self.size and self.size % count:
            raise OptionError(
                f"{OPTION} {self.size} fits not with this model's {count} key and value heads: use a divisor of it."
            )
        begin = self.rank * count // self.size
        return slice(begin, begin + max(1, count // self.size))

    def rows(self, count: int) -> slice:
        """This rank's part of a table's rows; the last rank's may be shorter."""
        each = -(-count // self.size)
        return slice(min(self.rank * each, count), min((self.rank + 1) * each, count))


_joined = Group()


def group() -> Group:
    """The group of this process."""
    return _joined


def join(rank: int, addresses: Sequence[str]) -> None:
    """Become one rank of a group, and wait for the others; the layers that are built afterwards hold their parts.

    The ranks talk over gloo on a CPU and over NCCL on a GPU, as the device says that was selected before.

    Args:
        rank: this process.
        addresses: "host:port" of a meeting point, and then of each rank; all of them free.
    """
    global _joined
    meeting, *ranks = addresses
    os.environ |= {
        "PADDLE_MASTER": meeting,
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(ranks)),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(ranks),
        "PADDLE_CURRENT_ENDPOINT": ranks[rank],
    }
    if paddle.get_device() == "cpu":
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    paddle.distributed.init_parallel_env()
    _joined = Group(rank, len(ranks))


def summed(part: paddle.Tensor) -> paddle.Tensor:
    """The sum over all ranks of what each has computed, the same on every rank; may change `part`."""
    if _joined.size > 1:
        paddle.distributed.all_reduce(part)
    return part
