"""What a meter asks of ClickHouse: its event name and formula as a question, and its values as exact text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pipeline.clickhouse.queries import TIME_MAX_MS, MisalignedTime, QueryFault, SummaryQuery
from pipeline.clickhouse.summaries import Summary
from pipeline.clickhouse.windows import Unit, moment_text
from pipeline.domain.catalog import Meter
from pipeline.domain.values import value_text
from pipeline.errors import UsageError
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Integer, shown_given
from pipeline.gateway.moments import MOMENT_S_MAX, moment_ms
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import Problem, invalid, missing_object

PARAMS: Final = {"start_ms": "start_time", "end_ms": "end_time", "aggregations": "aggregations"}
"""By field of SummaryQuery: the parameter that a client knows it by."""


def meter_of(parts: Parts, call: Call) -> Meter:
    """The meter that the path names. Raises Problem 404."""
    found: Meter | None = parts.catalog.meter(call.key.livemode, call.path["id"])
    if found is None:
        raise missing_object("billing meter", call.path["id"])
    return found


def question(meter: Meter, **more: Any) -> SummaryQuery:
    """The meter's question, narrowed by more fields of SummaryQuery. Raises Problem 400 that names the parameter."""
    window = None if meter.event_time_window is None else Unit(meter.event_time_window)
    fields = {"aggregations": (meter.formula,), "event_time_window": window} | more
    try:
        return SummaryQuery(meter.event_name, livemode=meter.livemode, **fields)
    except MisalignedTime as error:
        raise _misaligned(error, str(fields.get("zone", "UTC"))) from error
    except QueryFault as error:
        if error.param == "end_ms":
            message = f"start_time must be before end_time, and both before {moment_text(TIME_MAX_MS + 1, 'UTC')}."
            raise invalid("end_time", message) from error
        raise invalid(PARAMS[error.param], f"{error}.") from error
    except UsageError as error:
        raise invalid("zone", f"{error}.") from error


def _misaligned(error: MisalignedTime, zone: str) -> Problem:
    param = PARAMS[error.param]
    before, after = (moment_text(ms, zone) for ms in error.window)
    message = (
        f"{param} must begin a {error.unit}: {moment_text(error.moment_ms, zone)} does not, but "
        f"{before} ({error.window.start_ms // 1_000}) and {after} ({error.window.end_ms // 1_000}) do."
    )
    return invalid(param, message)


def formula_value(meter: Meter, summary: Summary) -> int:
    """The meter's value in units of 10^-12, 0 where there is nothing; of ``count`` too."""
    value = summary.values[meter.formula] or 0
    return value * 10**12 if meter.formula == "count" else value


def formula_text(meter: Meter, summary: Summary) -> str:
    """The meter's value as an exact decimal, without exponent."""
    return value_text(formula_value(meter, summary))


@dataclass(frozen=True, slots=True)
class When:
    """A point in time in a query string, read as int milliseconds: Unix seconds or RFC 3339."""

    def read(self, raw: Any, name: str, *, typed: bool) -> int:
        moment = moment_ms(raw) if isinstance(raw, str) else None
        if moment is not None:
            return moment
        try:
            return Integer(0, MOMENT_S_MAX).read(raw, name, typed=typed) * 1_000
        except Problem as problem:
            message = f"Invalid time: {shown_given(raw)}. {name} is Unix seconds, or as in 2026-01-31T12:00:00Z."
            raise invalid(name, message) from problem

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "string"}
