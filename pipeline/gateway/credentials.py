"""API keys as text: how one is made, what can be seen in it, and the keyed hash that is kept of it.

    sk_test_ 4fK2mQ9xTb0a 8Zc1vN3pLw6Rj0sYd7Hg2Ue5Xk9Bq4Ma 2Pz7Qk       (written without the spaces)
    │  │     │            │                                └ checksum: six digits of the CRC-32 of all before it
    │  │     │            └ the secret: 32 digits of 62, 190 bits
    │  │     └ the public part, by which the key is found: its object is key_4fK2mQ9xTb0a
    │  └ test or live: the mode of everything it sees and makes
    └ sk: may do everything; rk: what its scopes name

The checksum tells a mistyped key from a wrong one, and lets scanners find keys that were published by mistake.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import Final, NamedTuple

SECRET: Final = "secret"  # noqa: S105  # a kind of key
RESTRICTED: Final = "restricted"
KINDS: Final = {"sk": SECRET, "rk": RESTRICTED}

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PUBLIC_LENGTH, _SECRET_LENGTH, _CHECK_LENGTH = 12, 32, 6
_KEY = re.compile(
    rf"(?P<kind>sk|rk)_(?P<mode>live|test)_(?P<public>[0-9A-Za-z]{{{_PUBLIC_LENGTH}}})"
    rf"[0-9A-Za-z]{{{_SECRET_LENGTH}}}(?P<check>[0-9A-Za-z]{{{_CHECK_LENGTH}}})"
)
_ID_PREFIX: Final = "key_"
_SHOWN_END: Final = 4

SECRET_BYTES_MIN: Final = 16


class KeyFace(NamedTuple):
    """What can be seen of a key without knowing whether it stands."""

    id: str
    livemode: bool
    kind: str


def new_key(kind: str, *, livemode: bool) -> str:
    """A new key of SECRET or RESTRICTED kind. Whoever forgets to keep it has lost it."""
    prefix = next(prefix for prefix, named in KINDS.items() if named == kind)
    body = "".join(secrets.choice(_DIGITS) for _ in range(_PUBLIC_LENGTH + _SECRET_LENGTH))
    text = f"{prefix}_{'live' if livemode else 'test'}_{body}"
    return text + _check_digits(text)


def face_of(key: str) -> KeyFace | None:
    """What a well-formed key says of itself; None for any other text."""
    match = _KEY.fullmatch(key)
    if match is None or match["check"] != _check_digits(key[:-_CHECK_LENGTH]):
        return None
    return KeyFace(_ID_PREFIX + match["public"], match["mode"] == "live", KINDS[match["kind"]])


def hint_of(key: str) -> str:
    """How the key begins and ends, for people who look for the right one. Shows nothing of 28 of its secret digits."""
    return f"{key[:8]}…{key[-_SHOWN_END:]}"


def derived(secret: bytes, purpose: str) -> bytes:
    """A key for one purpose (HKDF's expansion step): whoever learns one of them learns no other."""
    return hmac.digest(secret, b"meterline " + purpose.encode() + b"\x01", hashlib.sha256)


def key_hash(secret: bytes, key: str) -> str:
    """What is kept of a key, hex. Keyed: the hash alone says nothing, not even about a guess."""
    return hmac.digest(derived(secret, "api keys"), key.encode(), hashlib.sha256).hex()


def _check_digits(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), []
    for _ in range(_CHECK_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)
