"""Why is this sum what it is, and what became of this event? The same as ``meterline explain``, by HTTP.

A customer's usage is made again from its events, each with what became of it, and compared with what is served. It
explains the sum and the number of the events; a meter's formula says which of them the meter shows. What would take too
much memory or time is refused: that is for the command line.
"""

from __future__ import annotations

from typing import Final

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse import explanation, explanation_number
from pipeline.clickhouse.explained import identifier_explained, number_explained
from pipeline.clickhouse.explanation import Explanation, explain
from pipeline.clickhouse.explanation_number import NumberExplanation, explain_number
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.domain.catalog import Meter
from pipeline.domain.limits import IDENTIFIER_CHARS_MAX
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Integer, Text
from pipeline.gateway.metered import When, meter_of, question
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import exclusive, invalid, missing

SCOPE: Final = "summaries:read"
EVENTS_MAX: Final = 1_000
RANGE_MAX: Final = 50_000
"""Events behind a sum, or shards: up to 1 kB each, and every thread that asks may be at it."""
RECORDS_MAX: Final = 10_000
"""Records and decisions about one identifier: all of them are in the answer."""

_RANGE_SAID: Final = f"At most {RANGE_MAX:,} events, and summaries by minute, partition and dimensions, are explained."
_RECORDS_SAID: Final = f"At most {RECORDS_MAX:,} records and decisions about it are explained."
_UNBOUNDED: Final = "`meterline explain` has no such bound."

FIELDS: Final = {
    "customer": Field(Text(), description="Of a sum: whose usage."),
    "end_time": Field(When(), description=f"Of a sum: until before then; begins a minute. {_RANGE_SAID}"),
    "identifier": Field(
        Text(IDENTIFIER_CHARS_MAX), description=f"Of an event, in place of customer and times. {_RECORDS_SAID}"
    ),
    "limit": Field(Integer(0, EVENTS_MAX), description=f"Events that are listed at most; {EVENTS_MAX} unless said."),
    "start_time": Field(When(), description="Of a sum: from then on; begins a minute."),
}


async def explain_usage(parts: Parts, call: Call) -> Answer:
    meter, given = meter_of(parts, call), call.given
    if "identifier" in given:
        for name in ("customer", "start_time", "end_time"):
            if name in given:
                raise exclusive("identifier", name)
        identifier: str = given["identifier"]
        behind = parts.freshness.records_behind()  # before the question: later it could tell of more than was read
        fate = await parts.questions.ask(lambda client: _fate(client, meter, identifier))
        return Answer(identifier_explained(fate, behind))
    for name in ("customer", "start_time", "end_time"):
        if name not in given:
            raise missing(name)
    whole = question(
        meter,
        start_ms=given["start_time"],
        end_ms=given["end_time"],
        customers=(given["customer"],),
        aggregations=("sum", "count"),
        event_time_window=None,
    )
    behind = parts.freshness.records_behind()
    found = await parts.questions.ask(lambda client: _number(client, whole, given.get("limit", EVENTS_MAX)))
    return Answer(number_explained(found, behind))


def _fate(client: Client, meter: Meter, identifier: str) -> Explanation:
    livemode, event_name = meter.livemode, meter.event_name
    if explanation.exceeds(client, identifier, RECORDS_MAX, livemode=livemode, event_name=event_name):
        raise invalid("identifier", f"{_RECORDS_SAID} {_UNBOUNDED}")
    return explain(client, identifier, livemode=livemode, event_name=event_name)


def _number(client: Client, whole: SummaryQuery, lines_max: int) -> NumberExplanation:
    if explanation_number.exceeds(client, whole, RANGE_MAX):
        raise invalid("end_time", f"{_RANGE_SAID} Ask for a shorter range; {_UNBOUNDED}")
    return explain_number(client, whole, lines_max)


EXPLANATION: Final[Schema] = {
    "type": "object",
    "properties": {"livemode": {"type": "boolean"}},
    "required": ["livemode"],
}

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="explain_meter_usage",
        method="GET",
        path="/meterline/v1/meters/{id}/explanation",
        face="meterline",
        scope=SCOPE,
        fields=FIELDS,
        handler=explain_usage,
        summary="Every event behind a sum, or every decision about one event",
        answer="meterline.explanation",
    ),
)

SHAPES: Final[dict[str, Schema]] = {"meterline.explanation": EXPLANATION}
