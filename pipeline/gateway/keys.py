"""API keys: who may call. They are objects of the catalog, so that every gateway soon hears of a new or a revoked one.

A key is found by its public part and held to its keyed hash in constant time. Whatever is wrong with one, the answer is
the same, and takes the same time.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import hmac
from collections.abc import Callable, Iterable
from typing import Final

from pipeline.domain.catalog import ApiKey
from pipeline.gateway.credentials import RESTRICTED, SECRET, face_of, hint_of, key_hash, new_key
from pipeline.gateway.parts import Secrets
from pipeline.gateway.problems import Problem, unauthorized, unavailable

SCOPES: Final = ("events:write", "adjustments:write", "summaries:read", "meters:write", "catalog:write")
"""What a restricted key may be allowed; a secret key is allowed all of it."""

AUTHORIZATION_CHARS_MAX: Final = 1_000
_OVERLONG: Final = "overlong"
"""Stands for a credential that nobody has to look at: it is none of ours."""

_NO_KEY: Final = (
    "You did not provide an API key. Send it as HTTP Basic's user name without a password, or as "
    "'Authorization: Bearer YOUR_KEY'."
)
_BAD_KEY: Final = "Invalid API key provided."

Find = Callable[[bool, str], ApiKey | None]
"""(livemode, id) -> the key's object as the catalog has it now."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who asks, once it is known."""

    id: str
    livemode: bool
    scopes: frozenset[str]


class KeyRing:
    """Tells who is behind a key. ``find`` looks into the catalog, ``clock`` gives milliseconds since the epoch.

    ``not_ready`` says what is wrong with the catalog, or None. Where it is not read to its end, or not followed any
    more, nobody is let in: a key may have been made, or revoked, that it does not show.
    """

    def __init__(
        self,
        secrets: Secrets,
        find: Find,
        clock: Callable[[], int],
        not_ready: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._secrets, self._find, self._clock, self._not_ready = secrets, find, clock, not_ready

    def authenticate(self, authorization: str | None) -> KeyHolder:
        """The holder of the key in an Authorization header.

        Raises Problem 401, for every wrong key the same one; 503 while keys cannot be told apart.
        """
        self.check_ready()
        key = credential_of(authorization)
        if not key:
            raise unauthorized(_NO_KEY)
        face = face_of(key)
        found = None if face is None else self._find(face.livemode, face.id)
        if not self._matches(key, found) or found is None or not stands(found, self._clock()):
            raise _bad_key()
        return holder_of(found)

    def check_ready(self) -> None:
        """Raises Problem 503 while it is not known which keys stand."""
        if self._not_ready() is not None:
            raise unavailable(message="The gateway does not know its keys yet. Nothing was done: try again.")

    def standing(self, livemode: bool, key_id: str) -> KeyHolder | None:
        """The holder of a key that a session stands for; None when the key does not stand any more."""
        found = self._find(livemode, key_id)
        return None if found is None or not stands(found, self._clock()) else holder_of(found)

    def _matches(self, key: str, found: ApiKey | None) -> bool:
        """Also computes a hash where there is nothing to compare with: time tells nothing about what exists."""
        kid = self._secrets.signing_kid if found is None else found.hash_key
        secret = self._secrets.by_kid.get(kid, b"")
        same = hmac.compare_digest(key_hash(secret, key), "" if found is None else found.hash)
        return same and kid in self._secrets.by_kid


def _bad_key() -> Problem:
    return unauthorized(_BAD_KEY)


@functools.lru_cache(maxsize=1_000)
def _scopes_of(kind: str, scopes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(SCOPES) if kind == SECRET else frozenset(scopes)


def holder_of(key: ApiKey) -> KeyHolder:
    return KeyHolder(key.id, key.livemode, _scopes_of(key.kind, key.scopes))


def stands(key: ApiKey, now_ms: int) -> bool:
    """Whether the key may be used now."""
    expired = key.expires_at_ms is not None and now_ms >= key.expires_at_ms
    return not (key.deleted or expired or key.revoked_at_ms is not None)


def credential_of(authorization: str | None) -> str:
    """The key or token in an Authorization header, Bearer or Basic; empty when there is none that can be read."""
    if authorization is None:
        return ""
    if len(authorization) > AUTHORIZATION_CHARS_MAX:
        return _OVERLONG
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() != "basic":
        return ""
    try:
        user, _, _ = base64.b64decode(rest, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return user


def made_key(
    secrets: Secrets,
    now_ms: int,
    *,
    livemode: bool,
    name: str = "",
    scopes: Iterable[str] | None = None,
    expires_at_ms: int | None = None,
    rolled_from: str | None = None,
) -> tuple[str, ApiKey]:
    """(the key, its object): the first is shown once, the second is kept. ``scopes`` of None: a secret key."""
    kind = SECRET if scopes is None else RESTRICTED
    key = new_key(kind, livemode=livemode)
    face = face_of(key)
    assert face is not None, "what we make is well-formed"
    kid = secrets.signing_kid
    return key, ApiKey(
        id=face.id,
        livemode=livemode,
        created_ms=now_ms,
        updated_ms=now_ms,
        version=1,
        name=name,
        kind=kind,
        scopes=tuple(sorted(set(scopes or ()))),
        hash=key_hash(secrets.by_kid[kid], key),
        hash_key=kid,
        hint=hint_of(key),
        expires_at_ms=expires_at_ms,
        rolled_from=rolled_from,
    )


def rolled_key(secrets: Secrets, now_ms: int, old: ApiKey, overlap_ms: int) -> tuple[str, ApiKey, ApiKey]:
    """(the new key, its object, the old one as it expires): for ``overlap_ms`` both stand."""
    scopes = old.scopes if old.kind == RESTRICTED else None
    key, new = made_key(secrets, now_ms, livemode=old.livemode, name=old.name, scopes=scopes, rolled_from=old.id)
    ends_ms = now_ms + overlap_ms
    if old.expires_at_ms is not None:
        ends_ms = min(ends_ms, old.expires_at_ms)
    return key, new, _changed(old, now_ms, expires_at_ms=ends_ms)


def revoked_key(now_ms: int, key: ApiKey) -> ApiKey:
    """The key as it never stands again."""
    return _changed(key, now_ms, revoked_at_ms=now_ms)


def _changed(key: ApiKey, now_ms: int, **fields: int) -> ApiKey:
    changes = {**fields, "updated_ms": now_ms, "version": key.version + 1}
    return dataclasses.replace(key, request=None, **changes)  # type: ignore[arg-type]
