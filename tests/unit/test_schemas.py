"""The schemas: everything is listed, nothing is unlisted, the vectors are current, and no change breaks a reader."""

from __future__ import annotations

import copy
import json
import re
from io import BytesIO
from pathlib import Path

import pytest
from fastavro import schemaless_reader
from fastavro.validation import validate

from pipeline.codec import vectors
from pipeline.codec.evolution import faults
from pipeline.codec.framing import CONFLUENT_BYTES, SINGLE_OBJECT_BYTES
from pipeline.codec.records import CATALOG, Codec
from pipeline.codec.schemas import SCHEMAS, by_fingerprint, physical_form, schemas_directory, versions
from pipeline.domain.partitioning import murmur2
from pipeline.errors import UsageError
from pipeline.kafka.topics import TABLE

ROOT = Path(__file__).parents[2]
SCHEMAS_DIRECTORY = ROOT / "schemas"
ALL = [schema for name in SCHEMAS for schema in versions(name)]
EXAMPLES = [(schema, path) for schema in ALL for path in vectors.examples(schema)]


def test_the_checkouts_schemas_are_the_ones_in_use():
    assert schemas_directory() == SCHEMAS_DIRECTORY


def test_the_wheel_carries_the_schemas_where_they_are_looked_for():
    assert 'schemas = "pipeline/resources/schemas"' in (ROOT / "pyproject.toml").read_text()


def test_every_file_in_schemas_is_listed():
    listed = {"README.md", *(f"vectors/{name}" for name in vectors.vector_files())}
    for schema in ALL:
        directory = SCHEMAS[schema.name][0]
        listed |= {f"{directory}/v{schema.version}.avsc", *vectors.examples(schema)}
    there = {path.relative_to(SCHEMAS_DIRECTORY).as_posix() for path in SCHEMAS_DIRECTORY.rglob("*") if path.is_file()}
    assert there == listed


def test_the_readme_lists_every_schema_with_its_topic():
    rows = re.findall(
        r"^\| \[`([a-z-]+)`\]\(\1\) \| `(\w+)`.*\| `([a-z-]+)` \|$",
        (SCHEMAS_DIRECTORY / "README.md").read_text(),
        re.MULTILINE,
    )
    topic_of = {record: topic.suffix for topic in TABLE for record in topic.records}
    assert {(directory, name, topic) for directory, name, topic in rows} == {
        (SCHEMAS[name][0], name, topic_of[name]) for name in SCHEMAS
    }


def test_every_schema_is_a_topics_and_every_topics_record_has_a_schema():
    assert sorted(record for topic in TABLE for record in topic.records) == sorted(SCHEMAS)


def test_the_readmes_bytes_are_those_of_the_example():
    text = (SCHEMAS_DIRECTORY / "README.md").read_text()
    record = next(
        one for one in json.loads(vectors.vector_files()["records.json"]) if one["example"].endswith("v1/flight.json")
    )
    body = record["single_object"][2 * SINGLE_OBJECT_BYTES :]
    block = text[text.index("    2c 3230") : text.index("Maps may come")]
    shown = re.findall(r"^ +((?:[0-9a-f…]+ )*[0-9a-f…]+)(?: {2,}|$)", block, re.MULTILINE)
    pattern = "".join(shown).replace(" ", "").replace("…", "[0-9a-f]*")
    assert re.fullmatch(pattern, body)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: f"{schema.name}-v{schema.version}")
def test_a_schema_is_in_meterlines_namespace_documented_and_named_as_listed(schema):
    assert schema.document["namespace"] == "meterline"
    assert schema.document["name"] == schema.name
    assert schema.document["doc"].endswith(".") or schema.document["doc"].endswith(").")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_version_is_compatible_with_every_earlier_one(name):
    assert faults([schema.document for schema in versions(name)]) == []


def test_fingerprints_are_distinct():
    assert len(by_fingerprint()) == len(ALL)


@pytest.mark.parametrize("name", list(vectors.vector_files()))
def test_the_vectors_are_current(name):
    assert (SCHEMAS_DIRECTORY / "vectors" / name).read_text("utf-8") == vectors.vector_files()[name], (
        "run: python -m pipeline.codec.vectors"
    )


def test_the_generator_writes_what_is_there(tmp_path):
    assert sorted(vectors.write(tmp_path / "vectors")) == sorted(vectors.vector_files())
    for path in (tmp_path / "vectors").iterdir():
        assert path.read_bytes() == (SCHEMAS_DIRECTORY / "vectors" / path.name).read_bytes()


def test_the_generator_refuses_an_incompatible_schema(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "faults", lambda documents: ["v1 and v2: x is new and has no default"])
    with pytest.raises(UsageError, match="has no default"):
        vectors.write(tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: f"{schema.name}-v{schema.version}")
def test_every_schema_has_two_examples_that_differ_in_every_optional_field(schema):
    examples = list(vectors.examples(schema).values())
    assert len(examples) >= 2
    for field in schema.document["fields"]:
        if isinstance(field["type"], list) and schema.name != "Disposition":
            given = {example[field["name"]] is None for example in examples}
            assert given == {True, False}, f"{field['name']}: show it with and without"


@pytest.mark.parametrize(("schema", "path"), EXAMPLES, ids=[path for _, path in EXAMPLES])
def test_an_example_names_exactly_the_fields_and_is_read_back(schema, path):
    example = vectors.examples(schema)[path]
    assert list(example) == [field["name"] for field in schema.document["fields"]]
    written = vectors.plain_record(schema.document, example, schema.name in vectors.FULL_WIDTH)
    assert validate(written, schema.physical, strict=True)
    assert schemaless_reader(BytesIO(vectors.body_of(schema, example)), schema.physical) == written


def test_the_codec_writes_the_same_bytes_as_the_vectors():
    codec = Codec()
    again = {
        "MeterEvent": lambda value: codec.encode_event(codec.decode_journal(value)),
        "Cancellation": lambda value: codec.encode_cancellation(codec.decode_journal(value)),
        "MeterEventAdjustment": lambda value: codec.encode_adjustment(codec.decode_adjustment(value)),
        "SummaryShard": lambda value: codec.encode_shard(codec.decode_shard(value)),
        "Disposition": lambda value: codec.encode_disposition(codec.decode_disposition(value)),
        "Generation": lambda value: codec.encode_generation(codec.decode_generation(value)),
        **dict.fromkeys(CATALOG, lambda value: codec.encode_catalog(codec.decode_catalog(value))),
        "CoreEvent": lambda value: codec.encode_core_event(codec.decode_core_event(value)),
    }
    for record in json.loads((SCHEMAS_DIRECTORY / "vectors" / "records.json").read_text()):
        value = bytes.fromhex(record["single_object"])
        name = by_fingerprint()[value[2:SINGLE_OBJECT_BYTES]].name
        assert again[name](value) == value, record["example"]
        confluent = bytes.fromhex(record["confluent_id_42"])
        assert confluent[:CONFLUENT_BYTES] == b"\0\0\0\0\x2a"
        assert confluent[CONFLUENT_BYTES:] == value[SINGLE_OBJECT_BYTES:]


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafkas_own_tests(key, signed):
    assert murmur2(key) == signed % 2**32


def test_a_fingerprint_is_that_of_the_avro_specification():
    # "int" has the fingerprint 7275d51a3f395c8f in Avro's own test data; on the wire its bytes stand in reverse.
    from fastavro.schema import fingerprint

    assert fingerprint('"int"', "CRC-64-AVRO") == bytes.fromhex("7275d51a3f395c8f")[::-1].hex()


def test_the_physical_form_has_no_logical_types_left():
    for schema in ALL:
        assert "logicalType" not in json.dumps(physical_form(schema.document))


# Changes to a schema.


def one(*fields, **more):
    return {"type": "record", "name": "R", "doc": "R.", "fields": list(fields), **more}


def field(name, kind, **more):
    return {"name": name, "type": kind, "doc": "A field.", **more}


A = field("a", "string")
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 12}
INNER = {"type": "record", "name": "Inner", "doc": "I.", "fields": [field("x", "long")]}


@pytest.mark.parametrize(
    ("versions_", "said"),
    [
        ([one(A), one(A, field("b", "string"))], "R.b is new and has no default"),
        ([one(A, field("b", "string")), one(A)], "R.b is gone and has no default"),
        ([one(A), one(field("a", "bytes"))], "R.a is string in one and bytes in the other"),
        ([one(field("a", "int")), one(field("a", "long"))], "R.a is int in one and long in the other"),
        ([one(A), one(field("a", ["null", "string"], default=None))], "R.a is string in one and a union"),
        ([one(field("a", ["null", "string"])), one(field("a", ["null", "string", "long"]))], "R.a is a union"),
        (
            [one(field("a", DECIMAL)), one(field("a", DECIMAL | {"scale": 6}))],
            "decimal 38 12 in one and bytes decimal 38 6",
        ),
        (
            [one(field("a", "long")), one(field("a", {"type": "long", "logicalType": "timestamp-millis"}))],
            "R.a is long",
        ),
        (
            [one(field("a", {"type": "map", "values": "string"})), one(field("a", {"type": "map", "values": "long"}))],
            "R.a is string",
        ),
        (
            [
                one(field("a", {"type": "enum", "name": "E", "symbols": ["X"]})),
                one(field("a", {"type": "enum", "name": "E", "symbols": ["X", "Y"]})),
            ],
            "R.a is",
        ),
        ([one(A), {**one(A), "name": "S"}], "R is record R in one and record S"),
        (
            [
                one(field("a", ["null", INNER])),
                one(field("a", ["null", {**INNER, "fields": [field("x", "long"), field("y", "long")]}])),
            ],
            "R.a.y is new",
        ),
        ([one(field("a", "string", default="x")), one(field("a", "string", default="y"))], "R.a has another default"),
        ([one(field("a", "string", aliases=["b"]))], "R.a has aliases"),
        ([one({"name": "a", "type": "string"})], "R.a has no doc"),
        ([one(field("a", ["null", "long"], default=1))], "R.a has a default that is not of its first branch"),
        # Deleted in v2, back in v3 as something else: v1 data is still in the journal.
        (
            [one(A, field("b", "string", default="")), one(A), one(A, field("b", "long", default=0))],
            "v1 and v3: R.b is string in one and long",
        ),
    ],
)
def test_a_change_that_breaks_some_reader_is_refused(versions_, said):
    found = faults(versions_)
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    "versions_",
    [
        [one(A), one(A, field("b", "string", default=""))],
        [one(A, field("b", "string", default="")), one(A)],
        [one(A, field("b", "string", default="")), one(A), one(A, field("b", "string", default=""))],
        [one(field("b", "string", default=""), A), one(A, field("b", "string", default=""))],
        [one(A), copy.deepcopy(one(A)) | {"doc": "Said better."}],
    ],
)
def test_a_change_that_every_reader_survives_is_accepted(versions_):
    assert faults(versions_) == []
