"""Error reports without a stack: one per meter and window, made once, said until somebody takes it."""

from __future__ import annotations

import asyncio
import json

import pytest

from pipeline.domain.catalog import Meter
from pipeline.domain.core_events import CoreEvent
from pipeline.gateway import reports
from pipeline.gateway.core_events import full_body
from pipeline.gateway.reports import SAMPLES_MAX, WINDOW_MS, Invalid, Reports
from pipeline.gateway.usage import BAD_VALUE, NO_METER, Fault

NOW_MS = 1_790_000_003_000


def invalid(meter: str | None = "mtr_1", livemode: bool = True, message: str = "bad") -> Invalid:
    found = None
    if meter is not None:
        found = Meter(
            id=meter,
            livemode=livemode,
            created_ms=0,
            updated_ms=0,
            version=1,
            display_name="",
            event_name="",
            formula="",
        )
    return Invalid(livemode, Fault(BAD_VALUE if meter else NO_METER, "p", message, found), "req_1")


class Announced:
    """What was made durable; refuses the first few."""

    def __init__(self, refuses: int = 0) -> None:
        self.tried: list[str] = []
        self.events: list[CoreEvent] = []
        self._refuses = refuses

    async def __call__(self, event: CoreEvent) -> None:
        self.tried.append(event.id)
        if len(self.tried) <= self._refuses:
            raise ConnectionError
        self.events.append(event)


def told(added: list[tuple[Invalid, int]], announced: Announced, rounds: int = 1) -> list[CoreEvent]:
    async def story() -> None:
        service = Reports(announced, lambda: NOW_MS)
        for one, now_ms in added:
            service.add([one], now_ms)
        for _ in range(rounds):
            await service.stop()

    asyncio.run(story())
    return announced.events


def test_one_report_per_meter_mode_and_window():
    added = [(invalid(), NOW_MS), (invalid(), NOW_MS + 1), (invalid("mtr_2"), NOW_MS), (invalid(None), NOW_MS)]
    added += [(invalid(livemode=False), NOW_MS), (invalid(), NOW_MS + WINDOW_MS)]
    events = told(added, Announced())
    assert len(events) == len({event.id for event in events}) == 5
    first = json.loads(events[0].data)
    assert json.loads(bytes(full_body(events[0])["data"])) == first, "it is shown"
    assert first["reason"]["error_count"] == 2
    assert (first["validation_start"][17:], first["validation_end"][17:]) == ("20.000Z", "30.000Z")
    assert {event.type for event in events if event.related is None} == {"v1.billing.meter.no_meter_found"}
    assert all(event.related.url == f"/v1/billing/meters/{event.related.id}" for event in events if event.related)
    assert [event.id.startswith("evt_test_") for event in events] == [not event.livemode for event in events]


def test_samples_are_bounded_and_counts_are_not():
    (event,) = told([(invalid(message=str(number)), NOW_MS) for number in range(100)], Announced())
    (code,) = json.loads(event.data)["reason"]["error_types"]
    assert code["error_count"] == 100
    assert [one["error_message"] for one in code["sample_errors"]] == [str(number) for number in range(SAMPLES_MAX)]


def test_a_report_that_nobody_took_is_said_again_under_the_same_id():
    announced = Announced(refuses=2)
    events = told([(invalid(), NOW_MS), (invalid("mtr_2"), NOW_MS)], announced, rounds=3)
    assert len(set(announced.tried)) == 2
    assert announced.tried[:3] == [announced.tried[0]] * 3
    assert [event.related.id for event in events if event.related] == ["mtr_1", "mtr_2"]


def test_meters_in_one_window_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reports, "METERS_MAX", 3)
    assert len(told([(invalid(f"mtr_{number}"), NOW_MS) for number in range(10)], Announced())) == 3


def test_an_open_window_is_not_reported_before_the_gateway_ends():
    now = [NOW_MS]
    announced = Announced()

    async def story() -> None:
        service = Reports(announced, lambda: now[0])
        service.add([invalid()], NOW_MS)
        await service.start()
        await asyncio.sleep(0.01)
        assert announced.events == []
        await service.stop()

    asyncio.run(story())
    assert len(announced.events) == 1
