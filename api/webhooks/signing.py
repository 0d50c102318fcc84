"""Signatures of webhooks, as Standard Webhooks defines them: https://www.standardwebhooks.com."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 - what stands before a secret is none

SHORTEST_SECRET, LONGEST_SECRET = 24, 64
"""Bytes of a secret, by the standard."""


def secret_bytes(secret: str) -> bytes:
    """The key in a `whsec_...`.

    Raises:
        ValueError: it is not `whsec_` and the base64 of 24 to 64 bytes. Does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
        raise ValueError(
            f"A secret is {SECRET_PREFIX} and the base64 of {SHORTEST_SECRET} to {LONGEST_SECRET} random bytes"
        )
    return key


def signed_headers(webhook_id: str, timestamp: int, payload: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers by which a receiver knows a webhook for ours: one signature for each secret.

    Args:
        timestamp: Unix seconds of the attempt: receivers refuse old ones.
    """
    signed = b"%s.%d.%s" % (webhook_id.encode(), timestamp, payload)
    signatures = [
        base64.b64encode(hmac.digest(secret_bytes(secret), signed, hashlib.sha256)).decode() for secret in secrets
    ]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
