"""Who gets which places: usage has its own, so that no number of questions keeps it out."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from typing import Any

import pytest

from pipeline.gateway.app import App
from pipeline.gateway.calls import Call
from pipeline.gateway.operations import Answer, Operation
from pipeline.gateway.parts import Parts
from pipeline.gateway.request_log import RequestLog
from pipeline.gateway.routes import OPERATIONS

PLACES = 8
APPENDS_USAGE = {
    "create_meter_event",
    "create_meter_event_v2",
    "create_meter_event_stream",
    "create_meter_event_adjustment",
    "create_meter_event_adjustment_v2",
    "create_range_adjustment",
}


def test_h2_exactly_what_appends_usage_has_the_places_of_usage() -> None:
    assert {one.name for one in OPERATIONS if one.writes} == APPENDS_USAGE
    may = {one.name for one in OPERATIONS if one.scope in ("events:write", "adjustments:write")}
    assert may - APPENDS_USAGE == {"create_meter_event_session"}, "a new one: does it append usage?"


@pytest.mark.parametrize("usage", sorted(APPENDS_USAGE))
def test_h2_usage_gets_in_while_questions_hold_all_of_their_places(usage: str) -> None:
    """All of one caller, who may hold half of the places of a kind."""

    async def story() -> None:
        answer_now = asyncio.Event()

        async def hang(parts: Parts, call: Call) -> Answer:
            await answer_now.wait()
            return Answer({})

        nothing: dict[str, Any] = dict.fromkeys(one.name for one in dataclasses.fields(Parts))
        parts = Parts(**{**nothing, "clock": lambda: 0, "services": ()})
        rows = [
            dataclasses.replace(one, handler=hang, scope=None, own_body=True)
            for one in OPERATIONS
            if one.name in (usage, "list_meter_event_adjustments")
        ]
        app = App(parts, rows, PLACES, RequestLog(lambda _: None))
        statuses = [
            [asyncio.create_task(status(app, one)) for _ in range(PLACES)]
            for one in sorted(rows, key=lambda one: one.writes)
        ]
        await asyncio.sleep(0)
        answer_now.set()
        for asked in statuses:
            assert Counter(await asyncio.gather(*asked)) == {200: PLACES // 2, 429: PLACES // 2}

    asyncio.run(story())


async def status(app: App, one: Operation) -> int:
    """What a request without anything in it is answered with."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": one.method,
        "path": one.path,
        "query_string": b"",
        "headers": [],
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])
