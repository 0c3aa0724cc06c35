"""Usage as one likes to see it: many customers at once, by dimensions, minute to month, by the clocks of any zone.

Rows are ordered by window, customer and dimensions; a page goes on behind the row that the page before ended with,
which its token names. JSON, or by Accept one JSON object per line, or an Arrow stream. Values are exact decimals as
text (decimal256 in Arrow), and every answer says how fresh it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, Final

import pyarrow as pa

from pipeline.clickhouse.queries import NAMES, After, SummaryQuery
from pipeline.clickhouse.summaries import Summary
from pipeline.clickhouse.windows import Bucket, Unit, moment_text
from pipeline.domain.catalog import Meter
from pipeline.domain.limits import DIMENSION_KEY_CHARS_MAX, DIMENSIONS_MAX, VALUE_SCALE
from pipeline.domain.values import value_text
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Boolean, Choice, Integer, Text
from pipeline.gateway.lists import page_token, position_of
from pipeline.gateway.metered import When, meter_of, question
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field, ListOf
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import Problem, invalid
from pipeline.gateway.strict_json import read_json

SCOPE: Final = "summaries:read"
KIND: Final = "meterline.usage"
CUSTOMERS_MAX: Final = 1_000
FILTER_VALUES_MAX: Final = 100
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 10_000
NDJSON: Final = "application/x-ndjson"
ARROW: Final = "application/vnd.apache.arrow.stream"
NEXT_PAGE_HEADER: Final = "meterline-next-page"
AS_OF_HEADER: Final = "meterline-as-of"
_EXACT: Final = Context(prec=100)


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """``filter[region]=eu``, ``filter[region][0]=eu&filter[region][1]=us``: by dimension, the values that pass."""

    def read(self, raw: Any, name: str, *, typed: bool) -> dict[str, list[str]]:
        if not isinstance(raw, Mapping) or not 1 <= len(raw) <= DIMENSIONS_MAX:
            raise invalid(name, f"{name} names 1 to {DIMENSIONS_MAX} dimensions, as in {name}[region]=eu.")
        one, several = Text(min=0), ListOf(Text(min=0), FILTER_VALUES_MAX, 1)
        found = {}
        for dimension, values in raw.items():
            at = f"{name}[{str(dimension)[:DIMENSION_KEY_CHARS_MAX]}]"
            Text(DIMENSION_KEY_CHARS_MAX).read(dimension, at, typed=typed)
            found[str(dimension)] = (
                [one.read(values, at, typed=typed)]
                if isinstance(values, str)
                else several.read(values, at, typed=typed)
            )
        return found

    def schema(self, face: str) -> dict[str, Any]:
        values = {"type": "array", "items": {"type": "string"}}
        return {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, values]}}


FIELDS: Final = {
    "aggregations": Field(ListOf(Choice(*NAMES), len(NAMES), 1), description="The meter's formula, unless said."),
    "customers": Field(ListOf(Text(), CUSTOMERS_MAX, 1), description="Only theirs; everybody's, unless said."),
    "end_time": Field(When(), required=True, description="Until before then; begins a window."),
    "filter": Field(Filter(), description="Only usage with one of these values of a dimension."),
    "group_by": Field(
        ListOf(Text(DIMENSION_KEY_CHARS_MAX), DIMENSIONS_MAX, 1), description="One row per value of these dimensions."
    ),
    "limit": Field(Integer(1, LIMIT_MAX), description=f"Rows at most; {LIMIT_DEFAULT}, or {LIMIT_MAX} not as JSON."),
    "page": Field(Text(20_000), description="The next_page of the page before, with the same parameters."),
    "per_customer": Field(Boolean(), description="One row per customer, instead of one for all together."),
    "start_time": Field(When(), required=True, description="From then on; begins a window (without any: a minute)."),
    "window": Field(Choice("day", "hour", "minute", "month"), description="One row for each; else one for the range."),
    "zone": Field(Text(100), description="Whose clocks cut windows, as Europe/Berlin; UTC unless said."),
}


async def list_usage(parts: Parts, call: Call) -> Answer:
    meter = meter_of(parts, call)
    media_type = next((kind for kind in (NDJSON, ARROW) if kind in call.accept), "application/json")
    limit = call.given.get("limit") or (LIMIT_DEFAULT if media_type == "application/json" else LIMIT_MAX)
    asked = _question(meter, call.given)
    mark = _mark(meter, asked)
    after = _after(call.given["page"], mark, asked) if "page" in call.given else None
    as_of = parts.freshness.as_of()  # before the question: what is seen later than this is in the answer as well
    rows = await parts.questions.summaries(dataclasses.replace(asked, after=after, limit=limit + 1))
    shown, more = rows[:limit], len(rows) > limit
    next_page = _token(asked, shown[-1], mark) if more else None
    if media_type == "application/json":
        return Answer(
            {
                "object": KIND,
                "meter": meter.id,
                "event_name": meter.event_name,
                "livemode": meter.livemode,
                "zone": asked.zone,
                "window": None if asked.window is Unit.NONE else asked.window.value,
                "data": [_row(asked, row) for row in shown],
                "has_more": more,
                "next_page": next_page,
                "as_of": as_of,
            }
        )
    headers = {AS_OF_HEADER: json.dumps(as_of, separators=(",", ":"))}
    if next_page is not None:
        headers[NEXT_PAGE_HEADER] = next_page
    body = _lines(asked, shown) if media_type == NDJSON else _arrow(asked, shown)
    return Answer(body, headers=headers, media_type=media_type)


def _question(meter: Meter, given: Mapping[str, Any]) -> SummaryQuery:
    return question(
        meter,
        start_ms=given["start_time"],
        end_ms=given["end_time"],
        customers=tuple(dict.fromkeys(given.get("customers", ()))),
        per_customer=given.get("per_customer", False),
        window=Unit(given.get("window", "none")),
        zone=given.get("zone", "UTC"),
        group_by=tuple(dict.fromkeys(given.get("group_by", ()))),
        filters=tuple((name, tuple(values)) for name, values in given.get("filter", {}).items()),
        aggregations=tuple(dict.fromkeys(given.get("aggregations", (meter.formula,)))),
    )


def _mark(meter: Meter, asked: SummaryQuery) -> str:
    """What a page token has to agree with: it goes on in the same list, and in no other."""
    return hashlib.sha256(f"{meter.id} {asked!r}".encode()).hexdigest()[:16]


def _token(asked: SummaryQuery, row: Summary, mark: str) -> str:
    place = asked.place_of(row.window, row.customer, row.groups)
    return page_token(json.dumps([mark, *place.bucket, place.customer, *place.groups]))


def _after(token: str, mark: str, asked: SummaryQuery) -> After:
    try:
        # Anybody can write one by hand: it is read as strictly as a body.
        said, local_ms, piece_ms, customer, *groups = read_json(position_of(token).encode())
    except (Problem, ValueError, TypeError) as error:
        raise invalid("page", "page is the next_page of the page before, as it was given.") from error
    texts = all(text is None or isinstance(text, str) for text in (customer, *groups))
    whole = all(type(ms) is int and abs(ms) <= 2**62 for ms in (local_ms, piece_ms))
    if said != mark or not texts or not whole or len(groups) != len(asked.group_by):
        raise invalid("page", "page goes with the parameters of the page before: repeat them as they were.")
    return After(Bucket(local_ms, piece_ms), customer, tuple(groups))


def _row(asked: SummaryQuery, row: Summary) -> dict[str, Any]:
    found: dict[str, Any] = {
        "window_start": moment_text(row.window.start_ms, asked.zone),
        "window_end": moment_text(row.window.end_ms, asked.zone),
    }
    if asked.per_customer:
        found["customer"] = row.customer
    if asked.group_by:
        found["dimensions"] = dict(zip(asked.group_by, row.groups, strict=True))
    found["values"] = {name: _text(name, value) for name, value in row.values.items()}
    return found


def _text(name: str, value: int | None) -> str | None:
    if value is None:
        return None
    return str(value) if name == "count" else value_text(value)


def _lines(asked: SummaryQuery, rows: Sequence[Summary]) -> bytes:
    return "".join(json.dumps(_row(asked, row), ensure_ascii=False) + "\n" for row in rows).encode()


def _arrow(asked: SummaryQuery, rows: Sequence[Summary]) -> bytes:
    """window_start, window_end, [customer], the dimensions by their names, then the aggregations."""
    moment = pa.timestamp("ms", tz=asked.zone)
    columns: list[tuple[str, Any, list[Any]]] = [
        ("window_start", moment, [row.window.start_ms for row in rows]),
        ("window_end", moment, [row.window.end_ms for row in rows]),
    ]
    if asked.per_customer:
        columns.append(("customer", pa.string(), [row.customer for row in rows]))
    columns += [
        (f"dimension.{name}", pa.string(), [row.groups[place] for row in rows])
        for place, name in enumerate(asked.group_by)
    ]
    for name in asked.aggregations:
        kind = pa.uint64() if name == "count" else pa.decimal256(76, VALUE_SCALE)
        columns.append((name, kind, [_number(name, row.values[name]) for row in rows]))
    schema = pa.schema([(name, kind) for name, kind, _ in columns])
    batch = pa.record_batch([pa.array(values, kind) for _, kind, values in columns], schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _number(name: str, value: int | None) -> int | Decimal | None:
    return value if value is None or name == "count" else _EXACT.scaleb(Decimal(value), -VALUE_SCALE)


_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": "string", "nullable": True}
_MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
_WHOLE: Final[Schema] = {"type": "integer"}
_WHOLE_OR_NULL: Final[Schema] = {"type": "integer", "nullable": True}


def _object(optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    required = sorted(set(properties) - set(optional))
    return {"type": "object", "properties": properties, "required": required}


AS_OF: Final[Schema] = {
    **_object(
        looked_at=_MOMENT,
        records_not_visible=_WHOLE,
        newest_not_visible_age_ms=_WHOLE_OR_NULL,
        oldest_not_visible_age_ms=_WHOLE_OR_NULL,
        partitions={"type": "array", "items": _object(partition=_WHOLE, visible_below=_WHOLE, end=_WHOLE)},
    ),
    "nullable": True,
}

USAGE: Final[Schema] = _object(
    object={"type": "string", "enum": [KIND]},
    meter=_TEXT,
    event_name=_TEXT,
    livemode={"type": "boolean"},
    zone=_TEXT,
    window=_TEXT_OR_NULL,
    data={
        "type": "array",
        "items": _object(
            ("customer", "dimensions"),
            window_start=_MOMENT,
            window_end=_MOMENT,
            customer=_TEXT,
            dimensions={"type": "object", "additionalProperties": _TEXT_OR_NULL},
            values={"type": "object", "additionalProperties": _TEXT_OR_NULL},
        ),
    },
    has_more={"type": "boolean"},
    next_page=_TEXT_OR_NULL,
    as_of=AS_OF,
)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="list_meter_usage",
        method="GET",
        path="/meterline/v1/meters/{id}/usage",
        face="meterline",
        scope=SCOPE,
        fields=FIELDS,
        handler=list_usage,
        summary="Usage of many customers, by window, zone and dimensions",
        answer=KIND,
    ),
)

SHAPES: Final[dict[str, Schema]] = {KIND: USAGE}
