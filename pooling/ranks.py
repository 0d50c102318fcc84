"""The other processes of a tensor-parallel group, as the first of them starts, feeds and watches them.

The first rank is the worker itself. It starts the others as children and writes to the standard input of each: first
what to load, then every batch, each message as four bytes of length, little-endian, and msgpack. A child answers
nothing, for the sums that it computes with the others are there in the first rank too. Whoever ends takes the group
down: the first rank ends itself when a child does, and a child when its input does.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NoReturn, Self

import msgpack
import numpy as np

from pooling.device import DEVICE_VARIABLE, THREADS_VARIABLE, device_of_rank, select_device
from pooling.engine import PoolingInput
from pooling.model_options import ModelOptions
from pooling.parallel import join
from pooling.pooler_config import Activation, PoolingType
from pooling.vision.processors import PreparedImage

log = logging.getLogger(__name__)

EXIT_RANK_LOST = 73

LENGTH_BYTES = 4

# An image as msgpack: key, patches, their shape, grid, grid of tokens.
_ImageFields = tuple[bytes, bytes, tuple[int, ...], tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class Assignment:
    """What a rank is to be.

    Attributes:
        rank: which one, from 1; the worker is 0.
        addresses: of the meeting point and of all ranks, as `parallel.join` wants them.
        checkpoint: the model's directory.
        options: how it is served.
        device: where this rank computes.
    """

    rank: int
    addresses: tuple[str, ...]
    checkpoint: str
    options: ModelOptions
    device: str

    def encode(self) -> bytes:
        """The assignment as msgpack."""
        packed: bytes = msgpack.packb(asdict(self))
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The assignment that `encode` wrote."""
        fields = msgpack.unpackb(data)
        return cls(**fields | {"addresses": tuple(fields["addresses"]), "options": ModelOptions(**fields["options"])})


class Ranks:
    """Every rank of a group but the first."""

    def __init__(self, processes: Sequence["subprocess.Popen[bytes]"]) -> None:
        self._processes = processes
        for number, process in enumerate(processes, start=1):
            threading.Thread(target=self._watch, args=(number, process), name=f"rank {number}", daemon=True).start()

    @classmethod
    def start(cls, size: int, checkpoint: Path, options: ModelOptions, device: str, threads: int) -> Self:
        """Start ranks 1 to size - 1, and join them as rank 0. They load the checkpoint by themselves.

        Raises:
            DeviceError: there is no such device.
        """
        addresses = free_addresses(size + 1)
        processes = []
        for rank in range(1, size):
            own_device = device_of_rank(device, rank)
            # These two must be known before Paddle is imported, which what reads the assignment needs.
            environment = os.environ | {DEVICE_VARIABLE: own_device, THREADS_VARIABLE: str(threads)}
            process = subprocess.Popen([sys.executable, "-m", "pooling.rank"], stdin=subprocess.PIPE, env=environment)
            assignment = Assignment(rank, addresses, str(checkpoint.absolute()), options, own_device)
            send(_input_of(process), assignment.encode())
            processes.append(process)
        ranks = cls(processes)
        select_device(device_of_rank(device, 0))
        join(0, addresses)
        return ranks

    @contextlib.contextmanager
    def following(self, inputs: Sequence[PoolingInput]) -> Iterator[None]:
        """While it lasts the ranks compute these inputs too; if it ends by an exception, so does the whole group.

        A rank that has failed no longer takes part in the sums that the others wait for.
        """
        message = encode_inputs(inputs)
        try:
            for process in self._processes:
                send(_input_of(process), message)
            yield
        except BaseException:
            log.critical("rank 0 failed: ending its group", exc_info=True)
            os._exit(EXIT_RANK_LOST)

    def _watch(self, number: int, process: "subprocess.Popen[bytes]") -> NoReturn:
        status = process.wait()
        log.critical("rank %d ended (exit status %d): ending its group", number, status)
        os._exit(EXIT_RANK_LOST)


def encode_inputs(inputs: Sequence[PoolingInput]) -> bytes:
    """The inputs of a forward as msgpack."""
    packed: bytes = msgpack.packb(
        [
            [
                each.ids.astype("<i4").tobytes(),
                each.second_from,
                each.dimensions,
                each.normalize,
                each.pooling_type,
                each.activation,
                [_image_fields(image) for image in each.images],
            ]
            for each in inputs
        ]
    )
    return packed


def _image_fields(image: PreparedImage) -> list[object]:
    return [image.key, image.patches.astype("<f4").tobytes(), image.patches.shape, image.grid, image.token_grid]


def decode_inputs(data: bytes) -> list[PoolingInput]:
    """The inputs that `encode_inputs` wrote."""
    return [_input_of_fields(*fields) for fields in msgpack.unpackb(data, use_list=False)]


def _input_of_fields(
    ids: bytes,
    second_from: int | None,
    dimensions: int | None,
    normalize: bool | None,
    pooling_type: str | None,
    activation: str | None,
    images: tuple[_ImageFields, ...],
) -> PoolingInput:
    return PoolingInput(
        np.frombuffer(ids, "<i4"),
        second_from,
        dimensions,
        normalize,
        None if pooling_type is None else PoolingType(pooling_type),
        None if activation is None else Activation(activation),
        tuple(_image_of_fields(*fields) for fields in images),
    )


def _image_of_fields(
    key: bytes, patches: bytes, shape: tuple[int, ...], grid: tuple[int, int, int], token_grid: tuple[int, int, int]
) -> PreparedImage:
    return PreparedImage(key, np.frombuffer(patches, "<f4").reshape(shape), grid, token_grid)


def send(stream: IO[bytes], message: bytes) -> None:
    """Write a message with its length before it."""
    stream.write(len(message).to_bytes(LENGTH_BYTES, "little") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message, or None at the stream's end."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "little")
    message = stream.read(length)
    return message if len(message) == length else None


def free_addresses(count: int) -> tuple[str, ...]:
    """Addresses on this machine that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return addresses


def _input_of(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
