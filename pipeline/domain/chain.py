"""A digest over a log from its first record on, by which it shows when a record was removed, altered or moved.

    digest of no records     32 zero bytes
    digest of n + 1          SHA-256 of: the digest of the first n, then of the next record its key, its value, and name
                             and content of each header in their order; each with its length in 8 bytes in front, most
                             significant first, and eight bytes of 255 in place of the length where there is none

What its writer wrote of a record goes in, and its place; not the broker's time, so a topic that is restored from a copy
has the digests that it had. They are kept elsewhere for years: how they are made never changes.

Whoever writes to such a log says in a header how much of it was read before, and the digest of that (``FOLLOWS``). So a
record vouches for every record that its writer knew. Several may write at once: none has to be the very next after
another, what is vouched for is a beginning of the log, whichever records came in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

FOLLOWS = "follows"
"""Header: the head of the log as its writer had read it."""
BY = "by"
"""Header: who wrote it, for people. Whoever may write to the topic may write anything there."""

_length = Struct(">Q").pack
_NOTHING_THERE = b"\xff" * 8
_HEAD = re.compile(r"(0|[1-9][0-9]{0,17}):([0-9a-f]{64})", re.ASCII)

Headers = Sequence[tuple[str, str | bytes | None]]


class Head(NamedTuple):
    """How far a log was read."""

    records: int
    """So many, from the first on."""
    digest: bytes

    def __str__(self) -> str:
        return f"{self.records}:{self.digest.hex()}"


NOTHING = Head(0, bytes(32))


def head_of(text: str) -> Head:
    """What ``str`` of a head said. Raises ValueError."""
    found = _HEAD.fullmatch(text)
    if found is None:
        raise ValueError("a head is written COUNT:DIGEST, with 64 hexadecimal digits")
    return Head(int(found[1]), bytes.fromhex(found[2]))


def extended(head: Head, key: bytes | None, value: bytes | None, headers: Headers) -> Head:
    """The head after one more record. A hot loop: a gateway that starts reads all changes there ever were."""
    parts = [head.digest]
    for content in (key, value, *(part for header in headers for part in header)):
        if content is None:
            parts.append(_NOTHING_THERE)
        else:
            sized = content.encode() if isinstance(content, str) else content
            parts += (_length(len(sized)), sized)
    return Head(head.records + 1, sha256(b"".join(parts)).digest())


def headers_after(head: Head, by: str) -> tuple[tuple[str, bytes], ...]:
    """The headers of a record whose writer has read the log up to ``head``."""
    return ((FOLLOWS, str(head).encode()), (BY, by.encode()))
