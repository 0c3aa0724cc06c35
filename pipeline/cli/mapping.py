"""From the columns of a file to meter events: which column is which field, and what is said when one does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline.cli.lines import BadLine, Row
from pipeline.domain.events import Dimensions, MeterEvent
from pipeline.domain.times import timestamp_ms_of
from pipeline.domain.values import value_of
from pipeline.errors import UsageError

TEXT_FIELDS = ("identifier", "event_name", "customer", "value", "timestamp")
FIELDS = (*TEXT_FIELDS, "dimensions", "livemode")

_COLUMN_IN_BRACES = re.compile(r"\{([^{}]+)\}")
_LIVEMODES = {"true": True, "false": False}


class BadField(ValueError):
    """One field of a row does not fit; ``reason`` is a stable snake_case code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a field's text comes from: one column, or text with columns in braces, or the same text for every row."""

    pattern: str
    columns: tuple[str, ...]

    @classmethod
    def of_columns(cls, pattern: str) -> Source:
        """``carrier`` is a column; ``{carrier}-{flight}`` puts columns together."""
        return cls(pattern, tuple(_COLUMN_IN_BRACES.findall(pattern)) or (pattern,))

    @classmethod
    def of_text(cls, text: str) -> Source:
        return cls(text, ())

    def text_of(self, fields: Mapping[str, Any]) -> str | None:
        """The text for one row; None when a column is absent, null or empty."""
        if self.columns == (self.pattern,):  # the hot path: a column as it is
            return _cell(fields, self.pattern)
        cells = {column: _cell(fields, column) for column in self.columns}
        if None in cells.values():
            return None
        return _COLUMN_IN_BRACES.sub(lambda match: str(cells[match[1]]), self.pattern) if cells else self.pattern


def _cell(fields: Mapping[str, Any], column: str) -> str | None:
    cell = fields.get(column)
    if type(cell) is str:
        return cell or None
    if cell is None:
        return None
    raise BadField("not_text", f"{column} holds {_kind(cell)} where text or a number is expected")


@dataclasses.dataclass(frozen=True, slots=True)
class MappingOptions:
    """What the command line says about a file: NAME=SOURCE pairs, and what holds where a row is silent."""

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dimensions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    livemode: bool = True
    derive: bool = False
    """Give rows without an identifier one made of what they say and of how often the file said the same before."""


class EventMapping:
    """Turns the rows of one file into meter events.

    Without pairs a row is written in the fields of the MeterEvent schema, and an unknown JSON member makes it bad: a
    misspelt ``dimensions`` would otherwise be lost in silence. Raises UsageError for pairs that cannot be.
    """

    def __init__(self, options: MappingOptions) -> None:
        pairs = {**options.columns, **options.constants}
        for name in pairs:
            if name not in TEXT_FIELDS:
                raise UsageError(f"there is no field {name!r} to fill: choose from {', '.join(TEXT_FIELDS)}")
        if both := sorted(options.columns.keys() & options.constants.keys()):
            raise UsageError(f"{', '.join(both)}: give --map or --set, not both")
        self._csv = False
        self._strict = not pairs and not options.dimensions
        self._sources = {name: Source.of_columns(options.columns.get(name, name)) for name in TEXT_FIELDS}
        self._sources |= {name: Source.of_text(text) for name, text in options.constants.items()}
        self._dimensions = {name: Source.of_columns(source) for name, source in options.dimensions.items()}
        self._livemode = options.livemode
        self._derive = options.derive
        self._seen: Counter[bytes] = Counter()

    def accept_header(self, header: Iterable[str]) -> list[str]:
        """Take the columns of a CSV file; those that nothing reads come back. Raises UsageError when one is missing."""
        have = set(header)
        need = {column for source in self._sources.values() for column in source.columns}
        if self._derive and self._sources["identifier"].columns == ("identifier",):
            need.discard("identifier")
        need |= {column for source in self._dimensions.values() for column in source.columns}
        if missing := sorted(need - have):
            raise UsageError(
                f"the file has no column {', '.join(missing)}; it has {', '.join(sorted(have))}. "
                "Say which column is which with --map FIELD=COLUMN, or give one text for all with --set FIELD=TEXT"
            )
        self._csv, self._strict = True, False
        return sorted(have - need - {"identifier", "livemode"})

    def event_of(self, row: Row) -> MeterEvent | BadLine:
        """The event that a row says, or why it says none."""
        try:
            return self._event(row.fields)
        except BadField as error:
            return BadLine(row.line, row.text, error.reason, str(error))

    def _event(self, fields: dict[str, Any]) -> MeterEvent:
        if self._strict and not fields.keys() <= set(FIELDS):
            unknown = next(name for name in fields if name not in FIELDS)
            raise BadField("unknown_field", f"there is no field {unknown!r}: an event has {', '.join(FIELDS)}")
        texts = {name: source.text_of(fields) for name, source in self._sources.items()}
        for name, text in texts.items():
            if text is None and not (name == "identifier" and self._derive):
                raise BadField(f"no_{name}", f"{name} is missing or empty")
        event = MeterEvent(
            texts["identifier"] or "",
            texts["event_name"] or "",
            texts["customer"] or "",
            _read("value", value_of, texts["value"] or ""),
            _read("timestamp", timestamp_ms_of, texts["timestamp"] or ""),
            self._dimensions_of(fields),
            self._livemode_of(fields),
        )
        return event if event.identifier else event._replace(identifier=self._derived(event))

    def _dimensions_of(self, fields: dict[str, Any]) -> Dimensions:
        given = None if self._csv else fields.get("dimensions")
        given = {} if given is None else given
        if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
            raise BadField("bad_dimensions", 'dimensions is an object of texts, as in {"region": "eu"}')
        named = {name: source.text_of(fields) for name, source in self._dimensions.items()}
        return tuple(sorted({**given, **{name: text for name, text in named.items() if text is not None}}.items()))

    def _livemode_of(self, fields: dict[str, Any]) -> bool:
        given = fields.get("livemode")
        if given is None or given == "":
            return self._livemode
        if isinstance(given, bool):
            return given
        if given in _LIVEMODES:
            return _LIVEMODES[given]
        raise BadField("bad_livemode", f"livemode is true or false, not {given!r}")

    def _derived(self, event: MeterEvent) -> str:
        said = hashlib.sha256(json.dumps(event).encode()).digest()[:16]
        self._seen[said] += 1
        return hashlib.sha256(said + str(self._seen[said]).encode()).hexdigest()[:32]


def _read(name: str, read: Callable[[str], int], text: str) -> int:
    try:
        return read(text)
    except ValueError as error:
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise BadField(f"bad_{name}", f"{name} {shown!r}: {error}") from error


def _kind(cell: Any) -> str:
    return {bool: "true or false", dict: "an object", list: "a list"}.get(type(cell), "something else")
