"""Session tokens for the stream: signed, so that any gateway knows them without having made them.

    mss_  kid . claims . mac        each part base64url without padding

The mac is HMAC-SHA256 of all before it, always: no part of a token says how it is to be checked. ``kid`` only chooses
among the secrets that this gateway has been given. Claims are read after the mac has been found right, and the mac is
compared as text, so there is no second spelling of a token.

A token stands for its parent key, in one mode, on the stream endpoint alone, and dies with the key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets as randomness
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pipeline.gateway.calls import Caller
from pipeline.gateway.credentials import derived
from pipeline.gateway.keys import KeyHolder, KeyRing, credential_of
from pipeline.gateway.parts import Secrets
from pipeline.gateway.problems import Problem, unauthorized

LIFE_MS: Final = 15 * 60_000
SCOPE: Final = "events:write"
"""What a session may do, and what its parent key must be allowed."""

_PREFIX: Final = "mss_"
_AUDIENCE: Final = "stream"
_CLOCKS_DIFFER_MS: Final = 30_000
"""Gateways' clocks may differ by this much: a token is good from a little before it was made."""
_TOKEN = re.compile(rf"{_PREFIX}(?P<kid>[\w-]{{1,100}})\.(?P<claims>[\w-]{{1,600}})\.(?P<mac>[\w-]{{43}})", re.ASCII)
_DOC_URL: Final = "https://docs.stripe.com/error-codes#billing-meter-event-session-expired"


class Session(NamedTuple):
    """A token with what the API tells of it."""

    id: str
    token: str
    created_ms: int
    expires_at_ms: int
    livemode: bool


def expired() -> Problem:
    """401 of a token that was good: the client makes a new session and goes on."""
    return Problem(
        401,
        "temporary_session_expired",
        "The session has expired. Create a new meter event session and send the events again with its token.",
        "billing_meter_event_session_expired",
        doc_url=_DOC_URL,
    )


def _bad_token() -> Problem:
    return unauthorized("Invalid session token provided. Create a meter event session for the stream.")


class Tokens:
    """Makes and checks session tokens. ``clock`` gives milliseconds since the epoch."""

    def __init__(self, secrets: Secrets, keys: KeyRing, clock: Callable[[], int]) -> None:
        self._keys, self._clock = keys, clock
        self._kid = secrets.signing_kid
        self._mac_keys = {kid: derived(secret, "session tokens") for kid, secret in secrets.by_kid.items()}

    def issue(self, caller: Caller, session_id: str) -> Session:
        """A session that stands for ``caller``, a key, for fifteen minutes from now."""
        now_ms = self._clock()
        ends_ms = now_ms + LIFE_MS
        claims = {
            "key": caller.id,
            "livemode": caller.livemode,
            "scope": SCOPE,
            "aud": _AUDIENCE,
            "iat": now_ms,
            "nbf": now_ms - _CLOCKS_DIFFER_MS,
            "exp": ends_ms,
            "jti": randomness.token_hex(8),
        }
        signed = f"{_PREFIX}{_encoded(self._kid.encode())}.{_encoded(json.dumps(claims).encode())}"
        token = f"{signed}.{_mac(self._mac_keys[self._kid], signed)}"
        return Session(session_id, token, now_ms, ends_ms, caller.livemode)

    def authenticate(self, authorization: str | None) -> KeyHolder:
        """Whom the token in an Authorization header stands for.

        Raises Problem 401: ``expired`` for a token that was good and whose time is over, else always the same one;
        503 as KeyRing does.
        """
        self._keys.check_ready()
        claims = self._claims(credential_of(authorization))
        now_ms = self._clock()
        if claims is None or claims["aud"] != _AUDIENCE or claims["scope"] != SCOPE or now_ms < claims["nbf"]:
            raise _bad_token()
        parent = self._keys.standing(claims["livemode"], claims["key"])
        if parent is None or SCOPE not in parent.scopes:
            raise _bad_token()
        if now_ms >= claims["exp"]:
            raise expired()
        return KeyHolder(parent.id, parent.livemode, frozenset({SCOPE}))

    def _claims(self, token: str) -> dict[str, Any] | None:
        """What a token says whose mac is right; None for everything else."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        mac_key = self._mac_keys.get(_decoded(match["kid"]))
        if mac_key is None:
            return None
        signed = token[: match.start("mac") - 1]
        if not hmac.compare_digest(_mac(mac_key, signed), match["mac"]):
            return None
        found: dict[str, Any] = json.loads(_decoded(match["claims"]))
        return found


def _mac(key: bytes, signed: str) -> str:
    return _encoded(hmac.digest(key, signed.encode(), hashlib.sha256))


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _decoded(part: str) -> str:
    """The text of a part; empty for what is none."""
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    except ValueError:
        return ""
