"""Ids of objects. With an Idempotency-Key they follow from it, on any gateway: a repeat finds the object that the first
request made, and no store of keys is needed. Without one they are random.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as randomness

PREFIXES: dict[str, tuple[str, str]] = {
    "meter": ("mtr_", "mtr_test_"),
    "product": ("prod_", "prod_"),
    "plan": ("plan_", "plan_"),
    "event": ("evt_", "evt_test_"),
    "adjustment": ("mtr_event_adj_", "mtr_event_adj_"),
    "summary": ("mtrusg_", "mtrusg_test_"),
    "session": ("mtr_event_ses_", "mtr_event_ses_"),
    "key": ("key_", "key_"),
}
"""By kind: the prefix in live mode, and in test mode."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24
"""Base-62 digits behind the prefix: 142 bits."""
_SPACE = 62**_LENGTH


def prefix_of(kind: str, *, livemode: bool) -> str:
    live, test = PREFIXES[kind]
    return live if livemode else test


def object_id(
    kind: str, *, livemode: bool, operation: str, idempotency_key: str | None, secret: bytes, part: str = ""
) -> str:
    """The id of an object that this request makes. ``secret`` keeps ids from being foreseen; ``part`` tells several
    objects of one request apart.
    """
    prefix = prefix_of(kind, livemode=livemode)
    if idempotency_key is None:
        return prefix + _base62(randomness.randbelow(_SPACE))
    said = "\x00".join((kind, str(livemode), operation, idempotency_key, part)).encode()
    digest = hmac.new(secret, said, hashlib.sha256).digest()
    return prefix + _base62(int.from_bytes(digest, "big") % _SPACE)


def request_id() -> str:
    """A new id for a request's log line and its Request-Id header."""
    return "req_" + randomness.token_hex(12)


def _base62(number: int) -> str:
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(digits)
