"""Every decoder and parser that meets foreign bytes: what may come of any bytes at all, and what must not.

A target takes bytes and returns, or raises what its caller is prepared for. Whatever else comes out of it is a finding:
another exception, an answer that contradicts itself, or more time than LONGEST_S.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from email.message import Message

import pytest

from pipeline.cli.lines import BadLine, Lines, csv_header, csv_rows, json_rows
from pipeline.cli.mapping import EventMapping, MappingOptions
from pipeline.codec.columns import decode_events, decode_table
from pipeline.codec.records import Codec
from pipeline.codec.schemas import SCHEMAS, SchemaVersion, newest
from pipeline.domain.checks import check_content
from pipeline.domain.events import Adjustment, Cancellation, CancellationRange, Disposition, MeterEvent
from pipeline.errors import UndecodableRecord, UsageError
from pipeline.gateway.forms import read_form
from pipeline.gateway.keys import KeyRing, credential_of
from pipeline.gateway.lists import position_of
from pipeline.gateway.parts import Secrets
from pipeline.gateway.problems import Problem
from pipeline.gateway.strict_json import read_json
from pipeline.gateway.tokens import Tokens
from pipeline.local.clickhouse_body import Disconnected, body_of, form_of
from pipeline.local.statement import SqlError, has_values, into_file, parts, refusal, rows_of_insert, suspicious, tokens

LONGEST_S = 0.1
"""For up to some thousand bytes. A time that is longer is taken again before it counts: machines are busy."""

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(check: Target) -> Target:
    TARGETS[check.__name__] = check
    return check


class _Registry:
    """Ids 0, 1, 2 … are the newest versions of all schemas, in order of their names."""

    def schema_of(self, schema_id: int) -> SchemaVersion | None:
        names = sorted(SCHEMAS)
        return newest(names[schema_id]) if schema_id < len(names) else None

    def id_of(self, schema: SchemaVersion) -> int:
        return sorted(SCHEMAS).index(schema.name)


SINGLE_OBJECT = Codec()
CONFLUENT = Codec(_Registry())


def _by_columns_too(value: bytes) -> bool:
    """Reading a single record by columns costs a hundred times as much: one in eight has to do."""
    return sum(value) % 8 == 0


def _journal(codec: Codec, value: bytes) -> None:
    readable = False
    with contextlib.suppress(UndecodableRecord):
        content = codec.decode_journal(value)
        readable = True
        encode = codec.encode_event if isinstance(content, MeterEvent) else codec.encode_cancellation
        # A map may come in any order and a decimal with leading zeros, so the bytes may differ; what they say may not.
        assert codec.decode_journal(encode(content)) == content, "written again it says something else"
    if _by_columns_too(value):
        cut = decode_events([value], codec.prefixes("MeterEvent"))
        assert readable or not len(cut.rows), "the columns read what the strict path refuses"


@target
def journal_single_object(value: bytes) -> None:
    _journal(SINGLE_OBJECT, value)


@target
def journal_confluent(value: bytes) -> None:
    _journal(CONFLUENT, value)


@target
def other_records(value: bytes) -> None:
    """What the sink and the adjustment agent read; by columns the same records as one by one."""
    decoders = {
        "SummaryShard": SINGLE_OBJECT.decode_shard,
        "Disposition": SINGLE_OBJECT.decode_disposition,
        "MeterEventAdjustment": SINGLE_OBJECT.decode_adjustment,
    }
    for name, decode in decoders.items():
        readable = False
        with contextlib.suppress(UndecodableRecord):
            decode(value)
            readable = True
        if name != "MeterEventAdjustment" and _by_columns_too(value):
            assert readable or not len(decode_table(name, [value]).rows), f"{name}: columns read what is none"
    with contextlib.suppress(UndecodableRecord):
        SINGLE_OBJECT.decode_catalog(value)


@target
def clickhouse_statement(value: bytes) -> None:
    found = rows_of_insert(value)
    if found is not None:
        assert 0 < found.offset <= len(value), "rows begin within the body"
    text = value.decode(errors="replace")
    list(tokens(value.decode("latin-1")))
    body, form, tail = parts(text)
    assert not tail or form is not None
    assert len(body) <= len(text)
    refusal(text)
    suspicious(text)
    has_values(text)
    into_file(text, "Native", "/file")


@target
def clickhouse_body(value: bytes) -> None:
    """The first line is the Content-Encoding, the second says chunked or a length or a multipart border."""
    encoding, _, rest = value.partition(b"\n")
    kind, _, rest = rest.partition(b"\n")
    headers = Message()
    headers["Content-Encoding"] = encoding.decode("latin-1").strip()
    if kind.strip() == b"chunked":
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = kind.decode("latin-1").strip() if kind[:1].isdigit() else str(len(rest))
    with contextlib.suppress(SqlError, Disconnected):
        body = body_of(headers, io.BytesIO(rest))
        if kind.startswith(b"form"):
            form_of(f"multipart/form-data; boundary={kind[4:].decode('latin-1').strip()}", body)
        else:
            while body.read():
                pass


def _emitted(rows: object, mapping: EventMapping) -> None:
    for row in rows:  # type: ignore[attr-defined]
        if not isinstance(row, BadLine):
            event = mapping.event_of(row)
            if not isinstance(event, BadLine) and check_content(event) is None:
                value = SINGLE_OBJECT.encode_event(event)
                assert SINGLE_OBJECT.decode_journal(value) == event, "emitted another event than the line says"


@target
def emit_json_lines(value: bytes) -> None:
    _emitted(json_rows(Lines(io.BytesIO(value))), EventMapping(MappingOptions()))


@target
def emit_csv(value: bytes) -> None:
    lines = Lines(io.BytesIO(value))
    with contextlib.suppress(UsageError):
        header = csv_header(lines, ",")
        mapping = EventMapping(MappingOptions())
        mapping.accept_header(header)
        _emitted(csv_rows(lines, ",", header), mapping)


@target
def gateway_json(value: bytes) -> None:
    with contextlib.suppress(Problem):
        read_json(value)


@target
def gateway_form(value: bytes) -> None:
    with contextlib.suppress(Problem):
        read_form(value)


_SECRETS = Secrets({"k1": b"x" * 32})
_TOKENS = Tokens(_SECRETS, KeyRing(_SECRETS, lambda livemode, id_: None, lambda: 0), lambda: 0)


@target
def gateway_credentials(value: bytes) -> None:
    """No bytes are a token or a key: nobody has made one."""
    header = value.decode("latin-1")
    credential_of(header)
    for ring in (_TOKENS, _TOKENS._keys):
        with pytest.raises(Problem) as refused:
            ring.authenticate(header)
        assert refused.value.status == 401
    with contextlib.suppress(Problem):
        position_of(header)


def seeds() -> dict[str, list[bytes]]:
    """Good input of every target, to begin with; tests/corpus holds what was found on the way."""
    event = MeterEvent("e-1", "calls", "c-1", 10**12, 1_700_000_000_000, (("a", "1"), ("b", "")), True)
    span = CancellationRange(None, 0, 60_000)
    single = Cancellation("a", "calls", True, "e-1", None, 5)
    ranged = single._replace(identifier=None, range=span)
    records = [
        lambda codec: codec.encode_event(event),
        lambda codec: codec.encode_event(event._replace(value=-(10**38) + 1, dimensions=())),
        lambda codec: codec.encode_cancellation(single),
        lambda codec: codec.encode_cancellation(ranged),
        lambda codec: codec.encode_adjustment(Adjustment("a", "calls", True, None, span)),
    ]
    others = [
        SINGLE_OBJECT.encode_disposition(Disposition(1, 2, 3, "event", "duplicate", None, True, "calls", "e", "c", 7)),
        SINGLE_OBJECT.encode_adjustment(Adjustment("a", "calls", True, "e-1", None)),
    ]
    json_line = (
        b'{"identifier":"e1","event_name":"n","customer":"c","value":"1.50","timestamp":1700000000000,'
        b'"dimensions":{"k":"v"},"livemode":true}\n'
    )
    return {
        "journal_single_object": [make(SINGLE_OBJECT) for make in records],
        "journal_confluent": [make(CONFLUENT) for make in records],
        "other_records": others,
        "clickhouse_statement": [
            b"INSERT INTO t (a, b) FORMAT JSONEachRow\n{}",
            b"INSERT INTO t VALUES (1, 'a''b')",
            b"SELECT 1 -- x\nFROM `t` WHERE a = {p:String} FORMAT Native SETTINGS max_threads = 1;",
            b"WITH $tag$ x $tag$ AS y SELECT url('http://h') /* c */",
        ],
        "clickhouse_body": [
            b"\nchunked\n5;x=y\r\nhello\r\n0\r\n\r\n",
            b"gzip\n10\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
            b"lz4\n0\n\x04\x22\x4d\x18",
            b"zstd\n0\n\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00",
            b'\nformxx\n--xx\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n--xx--\r\n',
        ],
        "emit_json_lines": [json_line * 2],
        "emit_csv": [b'identifier,event_name,customer,value,timestamp\ne1,n,"c ""1""",1.5,2024-01-01T00:00:00Z\n'],
        "gateway_json": [b'{"event_name":"n","payload":{"value":"1","x":[1,2.5e3,null,true,"\\ud83d\\ude00"]}}'],
        "gateway_form": [b"event_name=n&payload[value]=1&payload[stripe_customer_id]=c+1%20&expand[]=a&expand[]=b"],
        "gateway_credentials": [b"Bearer mss_azE.e30." + b"A" * 43, b"Basic c2tfdGVzdF94Og==", b"Bearer mk_live_1_2"],
    }
