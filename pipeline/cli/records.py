"""Records of any topic, decoded for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pipeline.codec.catalog import record_of
from pipeline.codec.records import Codec
from pipeline.domain.catalog import CatalogObject
from pipeline.domain.times import timestamp_text
from pipeline.domain.values import value_text
from pipeline.errors import UndecodableRecord
from pipeline.kafka.reading import Record

Decoded = dict[str, Any]
"""Fields by name: times as RFC 3339 text, values as exact decimal text, dimensions as an object."""

_VALUES = frozenset({"value", "sum", "min", "max"})
_MOMENTS = frozenset({"created", "updated", "deactivated_at", "expires_at", "revoked_at"})


def decoder(topic: str, codec: Codec) -> Callable[[Record], Decoded]:
    """How the values of this topic are read. What cannot be read comes back as ``undecodable`` with its reason."""
    decode = {
        "journal": codec.decode_journal,
        "adjustments": codec.decode_adjustment,
        "summaries": codec.decode_shard,
        "dispositions": codec.decode_disposition,
        "catalog": codec.decode_catalog,
        "core-events": codec.decode_core_event,
    }.get(topic)

    def decoded(record: Record) -> Decoded:
        if decode is None:
            return _as_it_came(record)
        try:
            content = decode(record.value)
        except UndecodableRecord as error:
            return {"undecodable": error.reason, **_as_it_came(record)}
        if isinstance(content, CatalogObject):
            return _catalog_record(content)
        return {"record": type(content).__name__, **_plain(content)}

    return decoded


def as_json(record: Record, decoded: Decoded) -> str:
    """One line of JSON: where the record stands, then what it says."""
    where = {
        "partition": record.partition,
        "offset": record.offset,
        "appended_at": timestamp_text(record.appended_at_ms),
    }
    return escaped(json.dumps({**where, **decoded}, ensure_ascii=False))


def as_line(record: Record, decoded: Decoded) -> str:
    """One line for the eye: ``partition:offset time Kind field=value ...``, without the fields that say nothing."""
    rest = " ".join(f"{name}={_shown(said)}" for name, said in decoded.items() if name != "record" and said is not None)
    kind = decoded.get("record", "")
    line = f"{record.partition}:{record.offset} {timestamp_text(record.appended_at_ms)} {kind} {rest}"
    return escaped(line.replace("  ", " "))


def escaped(line: str) -> str:
    """Strangers wrote some of it: what a terminal would obey, or show in another order, is written as JSON would."""
    return line if line.isprintable() else "".join(one if one.isprintable() else _escape(one) for one in line)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _plain(content: Any) -> Decoded:
    """A record's named tuple as text and plain containers; ``timestamp_ms`` becomes ``timestamp``."""
    plain: Decoded = {}
    for name, said in content._asdict().items():
        if said is None:
            plain[name.removesuffix("_ms")] = None
        elif name == "dimensions":
            plain[name] = dict(said)
        elif name == "key":
            plain |= _plain(said)
        elif name.endswith("_ms"):
            plain[name.removesuffix("_ms")] = timestamp_text(said)
        elif name in _VALUES:
            plain[name] = value_text(said)
        elif hasattr(said, "_asdict"):
            plain[name] = _plain(said)
        else:
            plain[name] = said
    return plain


def _catalog_record(one: CatalogObject) -> Decoded:
    """Whether it stands is not said here: that depends on all records before it. A key's hash is nobody's to see."""
    name, fields = record_of(one)
    moments = {moment: timestamp_text(fields[moment]) for moment in _MOMENTS & fields.keys() if fields[moment]}
    return {"record": name, **{field: said for field, said in {**fields, **moments}.items() if field != "hash"}}


def _as_it_came(record: Record) -> Decoded:
    headers = {name: _text(said) for name, said in record.headers}
    return {"key": _text(record.key), "value": _text(record.value), **({"headers": headers} if headers else {})}


def _text(said: str | bytes | None) -> str | None:
    return said.decode("utf-8", "backslashreplace") if isinstance(said, bytes) else said


def _shown(said: Any) -> str:
    return json.dumps(said, ensure_ascii=False) if isinstance(said, (dict, bool)) or said == "" else str(said)
