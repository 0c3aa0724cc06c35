"""Questions for summaries, as values that render to (SQL, parameters).

Rendering needs no database. Whatever a user gave is a bound parameter, names of dimensions too; the text is made of
constants alone. Windows are computed in ClickHouse, over shards, so that what travels is one row per window; the
clocks of a zone come as parameters (see zones.py).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline.clickhouse.windows import Bucket, Unit, Window, bucket_of, window_of
from pipeline.clickhouse.zones import Piece, pieces_between, pieces_of
from pipeline.domain.limits import DAY_MS, HOUR_MS
from pipeline.errors import UsageError

TIME_MIN_MS = -2_208_988_800_000
TIME_MAX_MS = 10_413_791_999_999
"""1900-01-01 to 2299-12-31: what ClickHouse's DateTime64 holds."""

_MARGIN_MS = 40 * DAY_MS
"""Windows reach beyond the range asked for by a month at most."""

AGGREGATIONS: dict[str, str] = {
    "count": "sum(count)",
    "sum": "reinterpret(sum(sum), 'Int256')",
    "min": "reinterpret(min(min), 'Int128')",
    "max": "reinterpret(max(max), 'Int128')",
    "last": "reinterpret(argMax(last_value, (last_timestamp, last_appended_at, shard, last_offset)), 'Int128')",
    "latest": "reinterpret(argMax(latest_value, (latest_appended_at, shard, latest_offset)), 'Int128')",
}
"""How shards merge. All but count are whole numbers in units of 10^-12."""

AVERAGE = "avg"
"""Made of sum and count, exactly, after the query."""

NAMES = ("sum", "count", "min", "max", AVERAGE, "last", "latest")


class Rendered(NamedTuple):
    """A statement with its parameters; the text holds ``{name:Type}`` where a parameter goes."""

    sql: str
    parameters: dict[str, Any]


class QueryFault(UsageError):
    """A question that has no answer. ``param`` names the field of SummaryQuery that is to blame."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class After(NamedTuple):
    """A row of an answer, by what it is ordered by."""

    bucket: Bucket
    customer: str | None
    groups: tuple[str | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class SummaryQuery:
    """Usage of one event name in [start_ms, end_ms), per window and whatever it is grouped by."""

    event_name: str
    livemode: bool = True
    start_ms: int = TIME_MIN_MS
    """Begins a window (a minute where there are no windows); TIME_MIN_MS: from the beginning."""
    end_ms: int = TIME_MAX_MS
    """Begins a window too; TIME_MAX_MS: to the end."""
    customers: tuple[str, ...] = ()
    """Only theirs, together unless ``per_customer``; none: everybody's."""
    per_customer: bool = False
    window: Unit = Unit.NONE
    zone: str = "UTC"
    """Whose clocks cut hours, days and months: a name of the IANA database."""
    group_by: tuple[str, ...] = ()
    """Names of dimensions. An event without the dimension is in a group of its own (None)."""
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(dimension, accepted values): an event passes when it passes all; one without the dimension does not."""
    aggregations: tuple[str, ...] = ("sum", "count")
    cuts: tuple[int, ...] = ()
    """In place of windows of one length: where each of them begins, ascending, the first one at ``start_ms``."""
    event_time_window: Unit | None = None
    """Unit.HOUR or Unit.DAY, of UTC: within each, of each customer, only the event that arrived last counts. Which one
    that is does not depend on the range, the filters or the groups that are asked for, so parts of a range add up."""

    newest_first: bool = False
    """The other way round; not together with ``group_by``."""
    limit: int | None = None
    """How many rows at most."""
    after: After | None = None
    """Only rows that come after this one in the order of the answer; not together with ``newest_first``."""

    def __post_init__(self) -> None:
        """Raises QueryFault, or UsageError for an unknown zone."""
        if not self.aggregations or not set(self.aggregations) <= set(NAMES):
            raise QueryFault("aggregations", f"aggregations are {', '.join(NAMES)}")
        if not TIME_MIN_MS <= self.start_ms < self.end_ms <= TIME_MAX_MS:
            raise QueryFault("end_ms", "the range is half-open: its start must be before its end")
        pieces_of(self.zone)
        if self.cuts:
            self._check_cuts()
        for param, moment_ms in (("start_ms", self.start_ms), ("end_ms", self.end_ms)):
            if moment_ms not in (TIME_MIN_MS, TIME_MAX_MS):
                self._check_aligned(param, moment_ms)

    def _check_cuts(self) -> None:
        assert self.window is Unit.NONE
        assert self.cuts[0] == self.start_ms
        assert self.cuts[-1] < self.end_ms
        assert all(low < high for low, high in itertools.pairwise(self.cuts))
        for moment_ms in self.cuts:
            self._check_aligned("start_ms", moment_ms)

    def _check_aligned(self, param: str, moment_ms: int) -> None:
        unit = Unit.MINUTE if self.window is Unit.NONE else self.window
        window = window_of(unit, bucket_of(unit, moment_ms, self.pieces), self.pieces)
        if window.start_ms != moment_ms:
            raise MisalignedTime(param, moment_ms, window, unit)

    @property
    def always_one(self) -> bool:
        """Whether there is one summary even of no usage: without windows and groups."""
        return self.window is Unit.NONE and not self.cuts and not self.group_by and not self.per_customer

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The time line of the zone around the range."""
        return pieces_between(self.zone, self.start_ms - _MARGIN_MS, self.end_ms + _MARGIN_MS)

    @property
    def columns(self) -> tuple[str, ...]:
        """The aggregations that the SQL computes: ``avg`` comes from two of them."""
        wanted = dict.fromkeys(self.aggregations)
        if AVERAGE in wanted:
            del wanted[AVERAGE]
            wanted |= dict.fromkeys(("sum", "count"))
        return tuple(wanted)

    def render(self, source: str = "summary_shards") -> Rendered:
        """A row per group: local_ms, piece_ms, [customer], group_0..., by which it is ordered; then ``columns``.

        ``source``: what shards are read from, a constant of ours: the view, or the table behind it, which saves
        ClickHouse a third of its work for a small question.
        """
        parameters: dict[str, Any] = {"livemode": self.livemode, "event_name": self.event_name}
        steps, clock = self._clock(parameters)
        # What is the same in all rows is no key: a question costs more to be understood than to be answered.
        keys = ["local_ms"] if clock[-1] == _NO_PIECE else ["local_ms", "piece_ms"]
        if self.per_customer:
            keys.append("customer")
        groups = []
        for place, name in enumerate(self.group_by):
            parameters[f"dimension_{place}"] = name
            keys.append(f"group_{place}")
            groups.append(_group(place))
        columns = [
            *clock,
            *(["customer"] if self.per_customer else []),
            *groups,
            *(f"{AGGREGATIONS[name]} AS total_{name}" for name in self.columns),
        ]
        lines = [
            *(["WITH", _list_of(steps)] if steps else []),
            "SELECT",
            _list_of(columns),
            *self._source(parameters, source),
            f"GROUP BY {', '.join(keys)}",
            *self._having(parameters),
            f"ORDER BY {', '.join(f'{key} DESC' if self.newest_first else key for key in keys)}",
        ]
        if self.limit is not None:
            parameters["limit"] = self.limit
            lines.append("LIMIT {limit:UInt64}")
        return Rendered("\n".join(lines), parameters)

    def _having(self, parameters: dict[str, Any]) -> list[str]:
        """The condition for ``after``. Groups without the dimension come last, in the order as here."""
        if self.after is None:
            return []
        assert not self.newest_first
        bucket, customer, groups = self.after
        wanted: list[tuple[str, str, Any]] = [
            ("local_ms", "Int64", bucket.local_ms),
            ("piece_ms", "Int64", bucket.piece_ms),
        ]
        if self.per_customer:
            wanted.append(("customer", "String", customer or ""))
        for place, group in enumerate(groups):
            wanted.append((f"isNull(group_{place})", "UInt8", int(group is None)))
            wanted.append((f"ifNull(group_{place}, '')", "String", group or ""))
        for place, (_, _, value) in enumerate(wanted):
            parameters[f"after_{place}"] = value
        places = ", ".join(f"{{after_{place}:{kind}}}" for place, (_, kind, _) in enumerate(wanted))
        return [f"HAVING ({', '.join(text for text, _, _ in wanted)}) > ({places})"]

    def place_of(self, window: Window, customer: str | None, groups: tuple[str | None, ...]) -> After:
        """Where a row of the answer stands, to go on behind it."""
        return After(self._bucket(window.start_ms), customer, groups)

    def _bucket(self, start_ms: int) -> Bucket:
        if self.cuts:
            return Bucket(start_ms, 0)
        local_ms, piece_ms = bucket_of(self.window, start_ms, self.pieces)
        return Bucket(local_ms, piece_ms if len(self.pieces) > 1 else 0)

    def _clock(self, parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Steps on the way, and the expressions for local_ms and piece_ms."""
        if self.cuts:
            parameters["cuts"] = list(self.cuts)
            return [], [f"roundDown({_MOMENT_MS}, {{cuts:Array(Int64)}}) AS local_ms", _NO_PIECE]
        if self.window is Unit.NONE:
            return [], ["toInt64(0) AS local_ms", _NO_PIECE]
        if self.window is Unit.MINUTE:
            return [], [f"{_MOMENT_MS} AS local_ms", _NO_PIECE]
        local = _LOCAL[self.window]
        if len(self.pieces) == 1:  # UTC, or a zone that does not change its clocks around the range
            shown = f"{_MOMENT_MS} AS shown_ms"
            if offset_ms := self.pieces[0].offset_ms:
                parameters["offset_ms"] = offset_ms
                shown = f"{_MOMENT_MS} + {{offset_ms:Int64}} AS shown_ms"
            return [shown, *local[:-1]], [local[-1], _NO_PIECE]
        parameters["starts"] = [piece.starts_ms for piece in self.pieces]
        parameters["offsets"] = [piece.offset_ms for piece in self.pieces]
        piece = "begins AS piece_ms" if self.window is Unit.HOUR else _NO_PIECE
        return [*_CLOCK, *local[:-1]], [local[-1], piece]

    def _source(self, parameters: dict[str, Any], source: str) -> list[str]:
        """Shards, or the survivors among them in the shape of shards; narrowed to what is asked for."""
        whose = ["livemode = {livemode:Bool}", "event_name = {event_name:String}"]
        if len(self.customers) == 1:
            (parameters["customer"],) = self.customers
            whose.append("customer = {customer:String}")
        elif self.customers:
            parameters["customers"] = list(self.customers)
            whose.append("customer IN {customers:Array(String)}")
        wanted = [*_between("start_ms", "end_ms"), "count > 0", *self._filters(parameters)]
        parameters["start_ms"], parameters["end_ms"] = self.start_ms, self.end_ms
        if self.event_time_window is None:
            return [f"FROM {source}", "WHERE " + "\n    AND ".join([*whose, *wanted])]
        slot_ms = _SLOT_MS[self.event_time_window]
        parameters["slot_ms"] = slot_ms
        parameters["slots_start_ms"] = max(TIME_MIN_MS, self.start_ms - self.start_ms % slot_ms)
        parameters["slots_end_ms"] = min(TIME_MAX_MS, self.end_ms + -self.end_ms % slot_ms)
        considered = [*whose, *_between("slots_start_ms", "slots_end_ms"), "count > 0"]
        survivors = _SURVIVORS.format(source=source, considered="\n            AND ".join(considered))
        return [survivors, "WHERE " + "\n    AND ".join(wanted)]

    def _filters(self, parameters: dict[str, Any]) -> list[str]:
        conditions = []
        for place, (name, accepted) in enumerate(self.filters):
            parameters[f"filter_{place}"], parameters[f"accepted_{place}"] = name, list(accepted)
            conditions += [
                f"mapContains(dimensions, {{filter_{place}:String}})",
                f"has({{accepted_{place}:Array(String)}}, dimensions[{{filter_{place}:String}}])",
            ]
        return conditions


class MisalignedTime(QueryFault):
    """A start or end inside a window: a part of it would be shown as the whole."""

    def __init__(self, param: str, moment_ms: int, window: Window, unit: Unit) -> None:
        super().__init__(param, f"{param} {moment_ms} lies inside a {unit}: {window.start_ms} to {window.end_ms}")
        self.moment_ms = moment_ms
        self.window = window
        self.unit = unit


_MOMENT_MS = "toUnixTimestamp64Milli(window_start)"
_NO_PIECE = "toInt64(0) AS piece_ms"  # a plain 0 in GROUP BY would be taken for the number of a column

_CLOCK = (
    f"{_MOMENT_MS} AS moment_ms",
    "roundDown(moment_ms, {starts:Array(Int64)}) AS begins",
    "moment_ms + transform(begins, {starts:Array(Int64)}, {offsets:Array(Int64)}) AS shown_ms",
)
"""When the piece of a minute began, and what the clocks show then."""

_LOCAL = {
    Unit.HOUR: ("shown_ms - positiveModulo(shown_ms, 3600000) AS local_ms",),
    Unit.DAY: ("shown_ms - positiveModulo(shown_ms, 86400000) AS local_ms",),
    Unit.MONTH: (
        "fromUnixTimestamp64Milli(shown_ms, 'UTC') AS shown",
        "(toInt64(toDate32(shown)) - toDayOfMonth(shown) + 1) * 86400000 AS local_ms",
    ),
}


_SLOT_MS = {Unit.HOUR: HOUR_MS, Unit.DAY: DAY_MS}

_SURVIVORS = f"""\
FROM (
    SELECT
        customer,
        one.1 AS window_start, one.2 AS dimensions, one.3 AS latest_value, one.4 AS latest_appended_at,
        one.5 AS shard, one.6 AS latest_offset,
        toUInt64(1) AS count, toDecimal256(latest_value, 12) AS sum, latest_value AS min, latest_value AS max,
        latest_value AS last_value, window_start AS last_timestamp, latest_appended_at AS last_appended_at,
        latest_offset AS last_offset
    FROM (
        SELECT
            customer,
            argMax(
                (window_start, dimensions, latest_value, latest_appended_at, shard, latest_offset),
                (latest_appended_at, shard, latest_offset)
            ) AS one
        FROM {{source}}
        WHERE {{considered}}
        GROUP BY customer, {_MOMENT_MS} - positiveModulo({_MOMENT_MS}, {{{{slot_ms:Int64}}}})
    )
)"""
"""The event that arrived last in each stretch of UTC, as the only one of its shard. Its minute is known, not its
timestamp: of survivors in one minute, which only several customers can have, ``last`` is the one that arrived last."""


def _list_of(parts: Iterable[str]) -> str:
    return ",\n".join(f"    {part}" for part in parts)


def _between(start: str, end: str) -> list[str]:
    return [
        f"window_start >= fromUnixTimestamp64Milli({{{start}:Int64}}, 'UTC')",
        f"window_start < fromUnixTimestamp64Milli({{{end}:Int64}}, 'UTC')",
    ]


def _group(place: int) -> str:
    name = f"{{dimension_{place}:String}}"
    return f"if(mapContains(dimensions, {name}), dimensions[{name}], NULL) AS group_{place}"
