"""Changing the catalog: once per request, however often and wherever it is repeated.

Each record of the log says which request wrote it, as digests of the idempotency key and of what was asked for. So
every gateway knows from the log alone what a key has done: a repeat answers with what it wrote then, other parameters
under the same key are refused, and no store of keys is needed. Requests without a key are never repeats.

Between reading what stands and writing what shall stand, another gateway may be quicker. The log's order then refuses
the write, and the change is made again from what stands now, with all its checks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pipeline.domain.catalog import CatalogObject
from pipeline.gateway.calls import Call
from pipeline.gateway.catalog import CatalogMemory, Conflict
from pipeline.gateway.ids import object_id
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import INVALID_REQUEST, Problem, mismatched_repeat

ATTEMPTS = 8
_PAUSE_S = 0.05
_DIGEST_CHARS = 32

One = TypeVar("One", bound=CatalogObject)

Make = Callable[[str | None], Sequence[CatalogObject]]
"""Given the text for ``request``: the objects to write, in order. The last one is the answer, and the one that bears
``request``: when it stands, all of it was done. Those before it bear ``part_request``; one that stands already is given
as it stands. Called again after a conflict. Raises Problem when the change is not allowed."""

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
"""One change at a time per object on this gateway: only another gateway can come in between."""


async def change(parts: Parts, call: Call, about: str, make: Make) -> tuple[Any, bool]:
    """The object as this request wrote it, and whether an earlier copy of the request had done so.

    ``about`` names what is changed, so that changes of it wait for each other. Raises Problem: what ``make`` raises;
    400 for a key that came with other parameters; 429 when others are quicker all the time. Raises Unavailable and
    Overloaded as CatalogMemory.write does.
    """
    catalog: CatalogMemory = parts.catalog
    key_digest, request = _request(call)
    lock = _locks.setdefault(f"{call.key.livemode}/{about}", asyncio.Lock())
    async with lock:
        for _ in range(ATTEMPTS):
            seen = None if key_digest is None else catalog.seen(key_digest)
            if seen is not None:
                if f"{key_digest}.{seen.asked}" != request:
                    raise mismatched_repeat()
                return seen.written, True
            objects = make(request)
            try:
                for one in objects:  # one after the other: what depends on a refused one must not stand without it
                    if catalog.present(type(one), one.livemode, one.id) is not one:
                        await catalog.write(one, by=call.key.id)
            except Conflict:
                await asyncio.sleep(random.uniform(0, _PAUSE_S))
                continue
            return objects[-1], False
    message = "Others are changing this object all the time. Nothing was done: try again."
    raise Problem(429, INVALID_REQUEST, message, "lock_timeout", headers={"stripe-should-retry": "true"})


def next_version(before: One, now_ms: int, request: str | None, **changes: Any) -> One:
    """The object with these changes; ``before`` itself when they change nothing."""
    if all(getattr(before, name) == value for name, value in changes.items()):
        return before
    updated_ms = max(before.updated_ms, now_ms)
    return dataclasses.replace(before, version=before.version + 1, updated_ms=updated_ms, request=request, **changes)


def part_request(request: str | None, part: str) -> str | None:
    """``request`` for an object that a request makes on the way to its answer. A repeat knows its own work by it."""
    return None if request is None else f"{_digest(f'{request} {part}')}.{_digest(part)}"


def version_of_new(before: CatalogObject | None) -> int:
    """The version of an object that is made where ``before``, if anything, was deleted."""
    return 1 if before is None else before.version + 1


def new_id(parts: Parts, call: Call, kind: str, part: str = "") -> str:
    """An id for what this request makes: the same on every gateway when the request has a key."""
    secrets = parts.settings.secrets
    return object_id(
        kind,
        livemode=call.key.livemode,
        operation=call.operation.name,
        idempotency_key=call.idempotency_key,
        secret=secrets.by_kid[secrets.signing_kid],
        part=part,
    )


def _request(call: Call) -> tuple[str | None, str | None]:
    if call.idempotency_key is None:
        return None, None
    key_digest = _digest(f"{call.key.livemode}\0{call.idempotency_key}")
    asked = {"operation": call.operation.name, "path": dict(call.path), "given": call.given}
    return key_digest, f"{key_digest}.{_digest(json.dumps(asked, sort_keys=True, default=str))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]
