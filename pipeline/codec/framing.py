"""The bytes in front of an Avro body that say which schema wrote it.

Single-object encoding: C3 01, then the 8-byte fingerprint; needs nothing else. Confluent framing: 0, then the
registry's 4-byte id, big-endian; needs a schema registry. Both are read, the second only where a registry is given.
"""

from __future__ import annotations

from typing import Protocol

from pipeline.codec.schemas import SINGLE_OBJECT_MARKER, SchemaVersion, by_fingerprint
from pipeline.errors import UndecodableRecord

SINGLE_OBJECT_BYTES = 10
CONFLUENT_BYTES = 5
CONFLUENT_MAGIC = b"\x00"


class Registry(Protocol):
    """What the framing needs of a schema registry."""

    def schema_of(self, schema_id: int) -> SchemaVersion | None:
        """The listed version with this id; None if the registry has none or another schema under it.

        Raises Unavailable while the registry cannot be asked.
        """

    def id_of(self, schema: SchemaVersion) -> int:
        """The id under which this version is registered. Raises Unavailable, or Refusal if it is not registered."""


def unframe(value: bytes | None, registry: Registry | None) -> tuple[SchemaVersion, int]:
    """The schema of a record value, and where its body begins.

    Raises UndecodableRecord: ``no_value``, ``unknown_framing``, ``no_schema_registry`` or ``unknown_schema``;
    Unavailable when the registry has to be asked and does not answer.
    """
    if not value:
        raise UndecodableRecord("no_value")
    if value[:2] == SINGLE_OBJECT_MARKER and len(value) >= SINGLE_OBJECT_BYTES:
        schema = by_fingerprint().get(value[2:SINGLE_OBJECT_BYTES])
        if schema is None:
            raise UndecodableRecord("unknown_schema", f"fingerprint {value[2:SINGLE_OBJECT_BYTES].hex()}")
        return schema, SINGLE_OBJECT_BYTES
    if value[:1] == CONFLUENT_MAGIC and len(value) >= CONFLUENT_BYTES:
        if registry is None:
            raise UndecodableRecord("no_schema_registry", "Confluent framing, and METERLINE_SCHEMA_REGISTRY is empty")
        schema_id = int.from_bytes(value[1:CONFLUENT_BYTES], "big")
        schema = registry.schema_of(schema_id)
        if schema is None:
            raise UndecodableRecord("unknown_schema", f"registry id {schema_id}")
        return schema, CONFLUENT_BYTES
    raise UndecodableRecord("unknown_framing", f"begins with {value[:CONFLUENT_BYTES].hex()}")


def frame(schema: SchemaVersion, registry: Registry | None) -> bytes:
    """What stands in front of a body of this schema: by the registry where there is one."""
    if registry is None:
        return schema.prefix
    return CONFLUENT_MAGIC + registry.id_of(schema).to_bytes(4, "big")
