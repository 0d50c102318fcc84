"""Webhooks on their way from the step that hands them in to the process that delivers them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack


@dataclass(frozen=True, slots=True)
class Webhook:
    """News of an end, for one receiver.

    Attributes:
        webhook_id: the same at every attempt, so that receivers can tell a second one (`msg_...`).
        url: where it is sent.
        secrets: `whsec_...` with which it is signed; none: the server's own.
        payload: the JSON that is sent, bytes.
    """

    webhook_id: str
    url: str
    secrets: Sequence[str]
    payload: bytes

    def encode(self) -> bytes:
        """As the steps of jobs and batches take it (`lua/outbox.lua`)."""
        # Redis' own msgpack knows strings only, and takes them for the bytes they are.
        fields = [self.webhook_id, self.url, list(self.secrets), self.payload]
        packed: bytes = msgpack.packb(fields, use_bin_type=False)
        return packed
