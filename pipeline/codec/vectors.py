"""Golden vectors: what a producer in another language checks itself against. Written to schemas/vectors by

    python -m pipeline.codec.vectors

after a schema or an example has been added; a test fails while they are not current. Examples are plain JSON: decimals
as text, times as milliseconds, maps as objects.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import schemaless_writer

from pipeline.codec.evolution import faults
from pipeline.codec.framing import CONFLUENT_MAGIC
from pipeline.codec.records import SUM_BYTES, VALUE_BYTES, decimal_bytes
from pipeline.codec.schemas import SCHEMAS, SchemaVersion, schemas_directory, versions
from pipeline.domain.partitioning import murmur2, partition_of
from pipeline.domain.values import value_of
from pipeline.errors import UsageError

PARTITION_COUNTS = (1, 2, 3, 8, 24, 48, 1000)

KEYS = (
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "foobar",
    "a-little-bit-long-string",
    "2013-01-01/UA/1545/EWR",
    "0c3b2f0e-6a55-4b7d-9a59-6f0d0f7f1f9e",
    "Zürich→東京 ✈",
    "🛫",
    "ÿ",
    "a b",
    "x" * 100,
)
"""Every remainder by 4, bytes above 127 (signed in Java), a long one."""

CONFLUENT_ID = 42
"""The registry's id in the vectors."""
_CONFLUENT_PREFIX = CONFLUENT_MAGIC + CONFLUENT_ID.to_bytes(4, "big")

FULL_WIDTH = {"SummaryShard"}
"""Records whose decimals are written at full width: 16 bytes, the sum 32."""


def plain_record(schema: Any, content: Any, full_width: bool) -> Any:
    """A record of plain JSON as fastavro writes it by the physical schema."""
    if isinstance(schema, list):
        return None if content is None else plain_record(schema[1], content, full_width)
    if isinstance(schema, str):
        return content
    if schema["type"] == "record":
        return {
            field["name"]: plain_record(field["type"], content[field["name"]], full_width) for field in schema["fields"]
        }
    if schema["type"] == "array":
        return [plain_record(schema["items"], item, full_width) for item in content]
    if schema["type"] == "map":
        return dict(sorted(content.items()))
    if schema.get("logicalType") == "decimal":
        if not full_width:
            return decimal_bytes(value_of(content))
        width = VALUE_BYTES if schema["precision"] == 38 else SUM_BYTES
        return value_of(content).to_bytes(width, "big", signed=True)
    return content


def body_of(schema: SchemaVersion, example: dict[str, Any]) -> bytes:
    """The Avro body of an example."""
    out = BytesIO()
    schemaless_writer(
        out, schema.physical, plain_record(schema.document, example, schema.name in FULL_WIDTH), strict=True
    )
    return out.getvalue()


def examples(schema: SchemaVersion) -> dict[str, dict[str, Any]]:
    """The examples of a version by their path in schemas/."""
    directory = schemas_directory()
    paths = sorted((directory / SCHEMAS[schema.name][0] / "examples" / f"v{schema.version}").glob("*.json"))
    return {path.relative_to(directory).as_posix(): json.loads(path.read_text("utf-8")) for path in paths}


def schema_vectors() -> list[dict[str, Any]]:
    return [
        {
            "name": schema.subject,
            "file": f"{SCHEMAS[name][0]}/v{schema.version}.avsc",
            "canonical": schema.canonical,
            "fingerprint": schema.fingerprint.hex(),
            "single_object_prefix": schema.prefix.hex(),
        }
        for name in SCHEMAS
        for schema in versions(name)
    ]


def partition_vectors() -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "bytes": key.encode().hex(),
            "murmur2": murmur2(key.encode()),
            "partition": {str(count): partition_of(key, count) for count in PARTITION_COUNTS},
        }
        for key in KEYS
    ]


def record_vectors() -> list[dict[str, Any]]:
    return [
        {
            "schema": f"{SCHEMAS[name][0]}/v{schema.version}.avsc",
            "example": path,
            "single_object": (schema.prefix + body_of(schema, example)).hex(),
            f"confluent_id_{CONFLUENT_ID}": (_CONFLUENT_PREFIX + body_of(schema, example)).hex(),
        }
        for name in SCHEMAS
        for schema in versions(name)
        for path, example in examples(schema).items()
    ]


def vector_files() -> dict[str, str]:
    """The text of every file in schemas/vectors by its name."""
    parts = {
        "schemas.json": schema_vectors(),
        "partitions.json": partition_vectors(),
        "records.json": record_vectors(),
    }
    return {name: json.dumps(vectors, indent=1, ensure_ascii=False) + "\n" for name, vectors in parts.items()}


def write(directory: Path) -> list[str]:
    """Write every file; returns their names. Raises UsageError if a schema has changed in a way that is not allowed."""
    wrong = [fault for name in SCHEMAS for fault in faults([schema.document for schema in versions(name)])]
    if wrong:
        raise UsageError("schemas: " + "; ".join(wrong))
    directory.mkdir(exist_ok=True)
    files = vector_files()
    for name, text in files.items():
        (directory / name).write_text(text, "utf-8")
    return list(files)


if __name__ == "__main__":
    for written in write(schemas_directory() / "vectors"):
        sys.stdout.write(f"schemas/vectors/{written}\n")
