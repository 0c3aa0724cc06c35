"""Writing records on behalf of a request: it is answered with success only when Kafka has acknowledged all of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Sequence

from pipeline.domain.checks import check_times
from pipeline.domain.limits import FoldRules
from pipeline.errors import Closed, Overloaded, Unavailable
from pipeline.gateway.calls import Call
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import too_many, unavailable
from pipeline.kafka.acknowledged import Appended, Outgoing

CLOSED_WITHIN_S = 30.0
"""How long a request waits for a journal that is on the move; less than a client waits for its answer."""
LOOK_AGAIN_S = 0.25
OUT_OF_TIME = (
    "A timestamp of this request was too old or too far ahead when it was written, and such an event does not count. "
    "Repeat the request with the same identifiers or the same Idempotency-Key: events without a timestamp get a new "
    "one, nothing counts twice, and a timestamp that will never do is refused."
)


async def written(parts: Parts, records: Sequence[Outgoing], timestamps_ms: Sequence[int] = ()) -> None:
    """Return when every record is acknowledged by all in-sync replicas, and events with these timestamps count.

    Raises Problem 429 before anything was handed over, 503 when it is not known whether all of it is in the log, or
    when a clock was wrong: this machine's is held to the brokers' by what they acknowledge, so a repeat goes well.
    """
    deadline = time.monotonic() + CLOSED_WITHIN_S
    try:
        while True:
            try:
                appended = await parts.journal.publish(records)
            except Closed:
                if time.monotonic() > deadline:
                    raise
                # What a part of the call's records is twice by this, the fold counts once.
                await asyncio.sleep(LOOK_AGAIN_S)
                records = [record._replace(topic=parts.live.present(record.topic)) for record in records]
            else:
                break
    except Overloaded as error:
        raise too_many("global-concurrency", round(error.retry_after_s)) from error
    except Unavailable as error:
        raise unavailable(round(error.retry_after_s)) from error
    if appended is not None and timestamps_ms and not _acceptable(timestamps_ms, appended, parts.live.rules):
        raise unavailable(message=OUT_OF_TIME)


def _acceptable(timestamps_ms: Sequence[int], appended: Appended, rules: FoldRules) -> bool:
    """Whether the fold takes all of them, whichever record was appended when."""
    oldest = check_times(min(timestamps_ms), appended.last_ms, rules)
    return oldest is None and check_times(max(timestamps_ms), appended.first_ms, rules) is None


def identifier_of(call: Call, index: int = 0) -> str:
    """The identifier of an event that was sent without one.

    It follows from the Idempotency-Key, where there is one: a repeat is the same event on any gateway, under any
    secret. Otherwise it is random, and a repeat is another event.
    """
    if call.idempotency_key is None:
        return str(uuid.uuid4())
    said = "\0".join((call.operation.name, str(call.key.livemode), call.idempotency_key, str(index)))
    return str(uuid.UUID(bytes=hashlib.sha256(said.encode()).digest()[:16]))


def digest_of(call: Call) -> bytes:
    """What the request asks for, so that two can be compared."""
    asked = json.dumps([call.operation.name, call.given], sort_keys=True, default=str)
    return hashlib.sha256(asked.encode()).digest()[:16]


def request_key(call: Call) -> tuple[bool, str] | None:
    """What the request's repeats have in common: mode and Idempotency-Key. None: it has no repeats."""
    return None if call.idempotency_key is None else (call.key.livemode, call.idempotency_key)
