"""What this gateway wrote itself a moment ago: single events by identity and by Idempotency-Key, in bounded memory.

It answers what Stripe answers where it can: a repeat of the same request with the first one's answer, another event
under a known identifier with an error, the same key for something else with an error. Nothing depends on it: what was
forgotten, or went to another gateway, is written again, and the fold counts it once.

    key   identity   the first one      answer
    ───   ────────   ──────────────     ────────────────────────────────────────────────
    same  same       is under way       wait for it, then as below
    same  same       is written         its answer again
    same  other                         the key was used for something else
    other same       is written         an event already exists with this identifier
    any   same       is not known       write it again: counts once
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pipeline.domain.events import Identity

EVENTS_KEPT: Final = 50_000


class AlreadyExists(Exception):
    """Another request has written an event with this identity."""


class OtherRequest(Exception):
    """The Idempotency-Key belongs to another request."""


class _Written:
    """One request: under way, written, or of unknown outcome."""

    __slots__ = ("answer", "asked", "done", "key")

    def __init__(self, key: tuple[bool, str] | None, asked: bytes, done: asyncio.Future[None]) -> None:
        self.key = key
        self.asked = asked
        self.done = done
        self.answer: Any = None
        """None until it is known to be written."""


class RecentEvents:
    """Belongs to one event loop."""

    def __init__(self, kept: int = EVENTS_KEPT) -> None:
        self._kept = kept
        self._by_identity: OrderedDict[Identity, _Written] = OrderedDict()
        self._by_key: dict[tuple[bool, str], _Written] = {}

    async def repeated(self, key: tuple[bool, str] | None, asked: bytes) -> Any:
        """The answer that this request was given before; None when nothing is known of it.

        ``key``: mode and Idempotency-Key, ``asked``: digest of what is asked for. Raises OtherRequest.
        """
        known = None if key is None else self._by_key.get(key)
        if known is None:
            return None
        if known.asked != asked:
            raise OtherRequest
        await asyncio.shield(known.done)
        return known.answer

    async def write(
        self,
        identity: Identity,
        key: tuple[bool, str] | None,
        asked: bytes,
        write: Callable[[], Awaitable[None]],
        answer: Any,
    ) -> tuple[Any, bool]:
        """Write an event that is not known here: what to answer, and whether it is a repeat.

        The answer is ``answer``, or that of the same request, which has written it meanwhile: of several repeats that
        waited for one that failed, one writes. Raises AlreadyExists, and what ``write`` raises: the outcome is unknown
        then, and the same event may be written again.
        """
        again = False
        while (known := self._by_identity.get(identity)) is not None:
            await asyncio.shield(known.done)
            if known.answer is not None:
                if key is None or (known.key, known.asked) != (key, asked):
                    raise AlreadyExists
                return known.answer, True
            if self._by_identity.get(identity) is known:  # nobody else tries again already
                again = True
                break
        mine = _Written(key, asked, asyncio.get_running_loop().create_future())
        self._remember(identity, mine)
        try:
            await write()
            mine.answer = answer
        finally:
            mine.done.set_result(None)
        return answer, again

    def forget(self, identity: Identity) -> None:
        """Nothing of it was done."""
        known = self._by_identity.pop(identity, None)
        if known is not None and known.key is not None and self._by_key.get(known.key) is known:
            del self._by_key[known.key]

    def _remember(self, identity: Identity, mine: _Written) -> None:
        self.forget(identity)
        self._by_identity[identity] = mine
        if mine.key is not None:
            self._by_key[mine.key] = mine
        while len(self._by_identity) > self._kept:
            self.forget(next(iter(self._by_identity)))
