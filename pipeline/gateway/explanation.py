"""Why is this sum what it is, and what became of this event? The same as ``meterline explain``, by HTTP.

A customer's usage is made again from its events, each with what became of it, and compared with what is served. It
explains the sum and the number of the events; a meter's formula says which of them the meter shows.
"""

from __future__ import annotations

from typing import Final

from pipeline.clickhouse.explained import identifier_explained, number_explained
from pipeline.clickhouse.explanation import explain
from pipeline.clickhouse.explanation_number import explain_number
from pipeline.domain.limits import IDENTIFIER_CHARS_MAX
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Integer, Text
from pipeline.gateway.metered import When, meter_of, question
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import exclusive, missing

SCOPE: Final = "summaries:read"
EVENTS_MAX: Final = 1_000

FIELDS: Final = {
    "customer": Field(Text(), description="Of a sum: whose usage."),
    "end_time": Field(When(), description="Of a sum: until before then; begins a minute."),
    "identifier": Field(Text(IDENTIFIER_CHARS_MAX), description="Of an event, in place of customer and times."),
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
        fate = await parts.questions.ask(
            lambda client: explain(client, identifier, livemode=meter.livemode, event_name=meter.event_name)
        )
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
    found = await parts.questions.ask(lambda client: explain_number(client, whole, given.get("limit", EVENTS_MAX)))
    return Answer(number_explained(found, behind))


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
