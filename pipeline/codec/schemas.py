"""Every Avro schema of the topics, in every version, as it stands in schemas/<name>/v<n>.avsc.

``SCHEMAS`` is the list: a version that is not in it is neither written nor read. A version is known on the wire by the
CRC-64-AVRO fingerprint of its canonical form, so documentation can be edited in place; anything else needs a new
version.

Records are read and written by the *physical* schema, without logical types: a decimal is bytes and a timestamp a
long, and the codec makes ints of them itself. fastavro would make Decimal and datetime objects, and round both.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

SCHEMAS: dict[str, tuple[str, int]] = {
    "MeterEvent": ("meter-event", 1),
    "Cancellation": ("cancellation", 1),
    "MeterEventAdjustment": ("meter-event-adjustment", 1),
    "SummaryShard": ("summary-shard", 1),
    "Disposition": ("disposition", 1),
    "Meter": ("meter", 1),
    "Product": ("product", 1),
    "Plan": ("plan", 1),
    "ApiKey": ("api-key", 1),
    "CoreEvent": ("core-event", 1),
    "Generation": ("generation", 1),
}
"""Record name -> (directory in schemas/, newest version). All versions from 1 to the newest are read; the newest is
written."""

SINGLE_OBJECT_MARKER = b"\xc3\x01"


@dataclasses.dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of one record's schema."""

    name: str
    """The record's name without namespace, a key of SCHEMAS."""
    version: int
    document: dict[str, Any]
    """The schema as it is written in its file, logical types and documentation included."""
    physical: dict[str, Any]
    """Without logical types, parsed by fastavro."""
    canonical: str
    """Avro's Parsing Canonical Form."""
    fingerprint: bytes
    """CRC-64-AVRO of the canonical form: 8 bytes, little-endian as on the wire."""

    @property
    def subject(self) -> str:
        """The full name, which is also its subject in a schema registry (RecordNameStrategy)."""
        return f"{self.document['namespace']}.{self.name}"

    @property
    def prefix(self) -> bytes:
        """The 10 bytes in front of every body in Avro single-object encoding."""
        return SINGLE_OBJECT_MARKER + self.fingerprint


def schemas_directory() -> Path:
    """Where the schema files are: in the wheel's resources, or in the checkout beside the package."""
    packaged = Path(str(resources.files("pipeline"))) / "resources" / "schemas"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


def physical_form(schema: Any) -> Any:
    """A schema without logical types, their parameters, documentation and defaults' meaning left as they are."""
    if isinstance(schema, list):
        return [physical_form(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if "logicalType" in schema:
        return physical_form(schema["type"])
    return {
        key: physical_form(part) if key in ("type", "items", "values", "fields") else part
        for key, part in schema.items()
        if key != "doc"
    }


def schema_version(name: str, version: int, text: str) -> SchemaVersion:
    """A schema from its JSON text."""
    document = json.loads(text)
    canonical = to_parsing_canonical_form(document)
    return SchemaVersion(
        name=name,
        version=version,
        document=document,
        physical=parse_schema(physical_form(document)),  # type: ignore[arg-type]
        canonical=canonical,
        fingerprint=bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")),
    )


@functools.cache
def versions(name: str) -> tuple[SchemaVersion, ...]:
    """All versions of a record's schema, oldest first."""
    directory, newest = SCHEMAS[name]
    return tuple(
        schema_version(name, number, (schemas_directory() / directory / f"v{number}.avsc").read_text("utf-8"))
        for number in range(1, newest + 1)
    )


def newest(name: str) -> SchemaVersion:
    """The version that is written."""
    return versions(name)[-1]


@functools.cache
def by_fingerprint() -> dict[bytes, SchemaVersion]:
    """Every listed version by its 8-byte fingerprint."""
    return {version.fingerprint: version for name in SCHEMAS for version in versions(name)}
