"""A meter's usage by one customer, as Stripe answers it: exact sums per hour, day or range, newest first.

Cursors are ids of summaries, and an id says which window it is of (summary_ids.py). So a page is asked for by time:
usage that arrives between two pages neither repeats nor hides a window.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.windows import Unit, Window
from pipeline.domain.catalog import Meter
from pipeline.domain.limits import DAY_MS, HOUR_MS
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Choice, Moment, Text
from pipeline.gateway.lists import CURSORS, LIMIT_DEFAULT, list_envelope, list_shape
from pipeline.gateway.metered import formula_text, meter_of, question
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import exclusive, missing_reference
from pipeline.gateway.shapes import expanded
from pipeline.gateway.summary_ids import SummaryName, summary_id, summary_name

SCOPE: Final = "summaries:read"
KIND: Final = "billing.meter_event_summary"

FIELDS: Final = {
    "customer": Field(Text(), required=True, description="Whose usage."),
    "end_time": Field(
        Moment(), required=True, description="Until before then; begins a minute, or one of the windows."
    ),
    **CURSORS,
    "start_time": Field(Moment(), required=True, description="From then on; begins a minute, or one of the windows."),
    "value_grouping_window": Field(
        Choice("day", "hour"), description="One summary for each of these, in UTC; without it one for the whole range."
    ),
}


async def list_summaries(parts: Parts, call: Call) -> Answer:
    expanded(call, (), within="data.")
    meter, given = meter_of(parts, call), call.given
    unit = Unit(given.get("value_grouping_window", "none"))
    # A customer that no event can have is bound like any other.
    whole = question(
        meter, start_ms=given["start_time"], end_ms=given["end_time"], customers=(given["customer"],), window=unit
    )
    page = _page(parts, call, meter, whole)
    found: list[tuple[Window, str]] = []
    if page is not None:
        rows = await parts.questions.summaries(page)
        found = [(row.window, formula_text(meter, row)) for row in rows]
    limit: int = given.get("limit") or LIMIT_DEFAULT
    shown = found[:limit] if given.get("ending_before") is None else found[:limit][::-1]
    bodies = [_body(parts, call, meter, *row) for row in shown]
    url = f"/v1/billing/meters/{meter.id}/event_summaries"
    return Answer(list_envelope(bodies, url, has_more=len(found) > limit))


def _page(parts: Parts, call: Call, meter: Meter, whole: SummaryQuery) -> SummaryQuery | None:
    """The question for one page and one window more; None when nothing can be in it. Nearest to the cursor first."""
    given = call.given
    after, before = given.get("starting_after"), given.get("ending_before")
    if after is not None and before is not None:
        raise exclusive("starting_after", "ending_before")
    start_ms, end_ms = whole.start_ms, whole.end_ms
    if after is not None:
        end_ms = min(end_ms, _window(parts, call, meter, whole, "starting_after").start_ms)
    if before is not None:
        start_ms = max(start_ms, _window(parts, call, meter, whole, "ending_before").end_ms)
    if start_ms >= end_ms:
        return None
    limit: int = given.get("limit") or LIMIT_DEFAULT
    windowed = whole.window is not Unit.NONE
    return question(
        meter,
        start_ms=start_ms,
        end_ms=end_ms,
        customers=whole.customers,
        window=whole.window,
        newest_first=before is None and windowed,
        limit=limit + 1 if windowed else None,
    )


def _window(parts: Parts, call: Call, meter: Meter, whole: SummaryQuery, param: str) -> Window:
    """The window that a cursor names. Raises Problem 400 when it is none of this list."""
    cursor = call.given[param]
    name = summary_name(cursor, livemode=meter.livemode, secrets=parts.settings.secrets)
    if name is None or (name.meter, name.customer) != (meter.id, whole.customers[0]):
        raise missing_reference("billing meter event summary", cursor, param)
    window = Window(name.start_ms, name.end_ms)
    width_ms = _WIDTH_MS.get(whole.window)
    if width_ms is None:
        of_this_list = window == (whole.start_ms, whole.end_ms)
    else:
        of_this_list = window.end_ms - window.start_ms == width_ms and window.start_ms % width_ms == 0
    if not of_this_list:
        raise missing_reference("billing meter event summary", cursor, param)
    return window


_WIDTH_MS: Final = {Unit.HOUR: HOUR_MS, Unit.DAY: DAY_MS}


def _body(parts: Parts, call: Call, meter: Meter, window: Window, value: str) -> dict[str, Any]:
    name = SummaryName(meter.id, call.given["customer"], window.start_ms, window.end_ms)
    return {
        "id": summary_id(name, livemode=meter.livemode, secrets=parts.settings.secrets),
        "object": KIND,
        "aggregated_value": msgspec.Raw(value.encode()),
        "end_time": window.end_ms // 1_000,
        "livemode": meter.livemode,
        "meter": meter.id,
        "start_time": window.start_ms // 1_000,
    }


SUMMARY: Final[Schema] = {
    "type": "object",
    "properties": {
        "aggregated_value": {"type": "number"},
        "end_time": {"type": "integer", "format": "unix-time"},
        "id": {"type": "string", "maxLength": 5_000},
        "livemode": {"type": "boolean"},
        "meter": {"type": "string", "maxLength": 5_000},
        "object": {"type": "string", "enum": [KIND]},
        "start_time": {"type": "integer", "format": "unix-time"},
    },
    "required": ["aggregated_value", "end_time", "id", "livemode", "meter", "object", "start_time"],
}

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="list_meter_event_summaries",
        method="GET",
        path="/v1/billing/meters/{id}/event_summaries",
        face="v1",
        scope=SCOPE,
        fields=FIELDS,
        handler=list_summaries,
        summary="A customer's usage per hour, day or range",
        answer=list_shape(KIND, "^/v1/billing/meters/[^/]+/event_summaries"),
    ),
)

SHAPES: Final[dict[str, Schema]] = {KIND: SUMMARY}
