"""Ids of summaries. A summary is stored nowhere: its id says which one it is, and a keyed checksum that it is ours.

The same meter, customer and window have the same id on every gateway and for ever, while the newest secret stands; so
an id is a cursor that nobody has to remember.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

from pipeline.gateway.ids import prefix_of
from pipeline.gateway.parts import Secrets

_CHECK_BYTES = 12


class SummaryName(NamedTuple):
    """Which summary: [start_ms, end_ms) of a customer's usage by a meter."""

    meter: str
    customer: str
    start_ms: int
    end_ms: int


def summary_id(name: SummaryName, *, livemode: bool, secrets: Secrets) -> str:
    """The id of a summary."""
    said = "\0".join((name.meter, name.customer, str(name.start_ms // 1_000), str(name.end_ms // 1_000))).encode()
    packed = said + _check(said, livemode, secrets.by_kid[secrets.signing_kid])
    return prefix_of("summary", livemode=livemode) + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def summary_name(id_: str, *, livemode: bool, secrets: Secrets) -> SummaryName | None:
    """Which summary an id names; None when it is no id of ours, or one of the other mode."""
    prefix = prefix_of("summary", livemode=livemode)
    text = id_.removeprefix(prefix)
    if text == id_:
        return None
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    said, check = packed[:-_CHECK_BYTES], packed[-_CHECK_BYTES:]
    if not any(hmac.compare_digest(check, _check(said, livemode, secret)) for secret in secrets.by_kid.values()):
        return None
    meter, customer, start, end = said.decode().split("\0")
    return SummaryName(meter, customer, int(start) * 1_000, int(end) * 1_000)


def _check(said: bytes, livemode: bool, secret: bytes) -> bytes:
    return hmac.new(secret, b"summary\0" + str(livemode).encode() + b"\0" + said, hashlib.sha256).digest()[
        :_CHECK_BYTES
    ]
