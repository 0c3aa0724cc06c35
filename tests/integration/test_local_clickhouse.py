"""The endpoint of the laptop stack against ClickHouse's own clients: clickhouse-connect, unmodified, and plain HTTP."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pyarrow
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tests.conftest import Stack


def connect(stack: Stack, **options: Any) -> Client:
    address = urllib.parse.urlsplit(stack.clickhouse)
    return clickhouse_connect.get_client(host=address.hostname, port=address.port, **options)


@pytest.fixture
def client(stack: Stack, namespace: str) -> Iterator[Client]:
    """A client whose database is the test's own."""
    with connect(stack) as first:
        first.command(f"CREATE DATABASE {namespace}")
    with connect(stack, database=namespace) as own:
        yield own
        own.command(f"DROP DATABASE {namespace}")


def http(stack: Stack, sql: str = "", *, path: str = "/", headers: dict[str, str] | None = None, **query: str) -> bytes:
    """POST, or GET when there is no SQL. Raises HTTPError as urllib does."""
    url = f"{stack.clickhouse}{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(url, data=sql.encode() or None, headers=headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def refused(stack: Stack, sql: str = "", **query: str) -> tuple[int, str, str]:
    """The HTTP status, ClickHouse's code and the text of a request that fails."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        http(stack, sql, **query)
    with raised.value as answer:
        return answer.code, answer.headers["X-ClickHouse-Exception-Code"], answer.read().decode()


def test_every_type_of_our_tables_comes_back_as_it_went(client: Client) -> None:
    client.command(
        "CREATE TABLE t (k String, n Int64, sum Decimal(76, 12), at DateTime64(3, 'UTC'), m Map(String, String), "
        "x Nullable(UInt8), l LowCardinality(String), b Bool) ENGINE = ReplacingMergeTree(n) ORDER BY k"
    )
    exact = decimal.Decimal("9" * 64 + ".999999999999")
    at = datetime.datetime(2024, 2, 29, 23, 59, 59, 999_000)  # noqa: DTZ001 - as the client reads a column in UTC
    row = ["ключ'\\\"`\n\t\0", -(2**63), exact, at, {"a": "b", "": "c"}, None, "low", True]
    client.insert("t", [row], column_names=["k", "n", "sum", "at", "m", "x", "l", "b"])
    found = client.query("SELECT * FROM t")
    assert list(found.result_rows[0]) == row
    assert found.column_names == ("k", "n", "sum", "at", "m", "x", "l", "b")


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_inserts_and_results_in_every_compression(
    stack: Stack, client: Client, namespace: str, compression: str | bool
) -> None:
    client.command("CREATE TABLE t (k String, n UInt64) ENGINE = MergeTree ORDER BY n")
    rows = [[f"k{n}", n] for n in range(100_000)]
    with connect(stack, database=namespace, compress=compression) as other:
        summary = other.insert("t", rows, column_names=["k", "n"])
        assert summary.written_rows == len(rows)
        assert [list(row) for row in other.query("SELECT k, n FROM t ORDER BY n").result_rows] == rows


def test_arrow_in_and_out_whole_and_as_a_stream(client: Client) -> None:
    client.command("CREATE TABLE t (k String, n Int64) ENGINE = MergeTree ORDER BY n")
    table = pyarrow.table({"k": [str(n) for n in range(200_000)], "n": pyarrow.array(range(200_000), pyarrow.int64())})
    assert client.insert_arrow("t", table).written_rows == 200_000
    assert client.query_arrow("SELECT k, n FROM t ORDER BY n", use_strings=True).to_pydict() == table.to_pydict()
    with client.query_arrow_stream("SELECT k, n FROM t ORDER BY n", use_strings=True) as batches:
        assert pyarrow.Table.from_batches(list(batches)).to_pydict() == table.to_pydict()
    assert client.query_arrow("SELECT k FROM t WHERE n < 0").num_rows == 0


def test_parameters_are_values_and_never_sql(client: Client) -> None:
    client.command("CREATE TABLE t (k String, n Int64) ENGINE = MergeTree ORDER BY k")
    nasty = "'; DROP TABLE t; -- \\ {x:String} \n\t`\""
    client.insert("t", [[nasty, 1], ["plain", 2]], column_names=["k", "n"])
    found = client.query("SELECT n FROM t WHERE k = {k:String}", parameters={"k": nasty})
    assert found.result_rows == [(1,)]
    many = client.query("SELECT n FROM t WHERE n IN {ns:Array(Int64)} ORDER BY n", parameters={"ns": [1, 2, 3]})
    assert many.result_rows == [(1,), (2,)]
    assert (
        client.command("SELECT {d:Decimal(38,12)}", parameters={"d": decimal.Decimal("0.1")}) == decimal.Decimal("0.1")
        or client.command("SELECT {d:Decimal(38,12)}", parameters={"d": decimal.Decimal("0.1")}) == "0.1"
    )


def test_parameters_too_long_for_a_url_go_in_a_form(stack: Stack, namespace: str) -> None:
    with connect(stack, form_encode_query_params=True) as client:
        long = "é" * 100_000
        assert client.query("SELECT length({s:String})", parameters={"s": long}).first_row == (200_000,)


def test_a_result_of_millions_of_rows_is_a_stream(client: Client) -> None:
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(3000000)") as blocks:
        assert sum(len(block) for block in blocks) == 3_000_000


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT nope", 47, 404),
        ("SELECT * FROM nope", 60, 404),
        ("SELECT * FROM nope.nope", 81, 404),
        ("SELEC 1", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT {x:Int8}", 456, 400),
        ("DROP TABLE nope", 60, 404),
        ("INSERT INTO nope FORMAT CSV\n1", 60, 404),
        ("SELECT 1 SETTINGS nope = 1", 115, 404),
    ],
)
def test_errors_have_the_codes_of_clickhouse(stack: Stack, client: Client, sql: str, code: int, status: int) -> None:
    found_status, found_code, text = refused(stack, sql, database=str(client.database))
    assert (found_status, found_code) == (status, str(code))
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert text.count("Code: ") == 1
    assert client.query("SELECT 1").first_row == (1,)


def test_clickhouse_connect_raises_errors_with_their_code(client: Client) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query("SELECT * FROM nope")
    assert raised.value.code == 60


def test_an_error_in_the_middle_of_a_result_is_noticed(stack: Stack, client: Client) -> None:
    sql = "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_threads = 1"
    with pytest.raises(StreamFailureError, match="non-zero") as raised, client.query_rows_stream(sql) as rows:
        for _ in rows:
            pass
    assert raised.value.code == 395
    with pytest.raises(Exception, match="IncompleteRead"):
        http(stack, sql + " FORMAT TSV")
    assert client.query("SELECT 1").first_row == (1,)


def test_bad_rows_insert_nothing_and_the_connection_goes_on(client: Client) -> None:
    client.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(DatabaseError) as raised:
        client.raw_insert("t", ["n"], b"1\n2\nthree\n", fmt="CSV")
    assert raised.value.code in (27, 117)
    assert client.query("SELECT count() FROM t").first_row == (0,)


def test_an_insert_whose_client_breaks_off_inserts_nothing(stack: Stack, client: Client) -> None:
    import http.client

    client.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
    address = urllib.parse.urlsplit(stack.clickhouse)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    query = urllib.parse.urlencode({"query": "INSERT INTO t FORMAT CSV", "database": client.database})
    connection.putrequest("POST", f"/?{query}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"1\n2\n3\n")
    connection.close()
    assert client.query("SELECT count() FROM t").first_row == (0,)
    client.command("INSERT INTO t VALUES (7)")
    assert client.query("SELECT n FROM t").result_rows == [(7,)]


def test_results_without_rows_keep_their_columns(client: Client) -> None:
    empty = client.query("SELECT toNullable(1) AS a, map('x', 'y') AS b, toLowCardinality('z') AS c WHERE 0")
    assert empty.column_names == ("a", "b", "c")
    assert empty.result_rows == []
    assert client.query("SHOW TABLES LIKE 'nope'").column_names == ("name",)
    assert client.query_arrow("SELECT 1 AS a WHERE 0").column_names == ["a"]


def test_curl_asks_by_url_by_body_and_in_any_format(stack: Stack) -> None:
    assert http(stack) == b"Ok.\n"
    assert http(stack, path="/ping") == b"Ok.\n"
    assert http(stack, query="SELECT 1") == b"1\n"
    assert http(stack, "SELECT 1, 'a'") == b"1\ta\n"
    assert http(stack, "SELECT 1, 'a' FORMAT CSV") == b'1,"a"\n'
    assert http(stack, "SELECT 1 AS a", default_format="JSONEachRow") == b'{"a":1}\n'
    assert http(stack, "SELECT 1 AS a", headers={"X-ClickHouse-Format": "CSVWithNames"}) == b'"a"\n1\n'
    assert json.loads(http(stack, "SELECT 1 AS a FORMAT JSON"))["data"] == [{"a": 1}]
    assert http(stack, "SELECT {a:UInt8} + {b:UInt8}", param_a="3", param_b="4") == b"7\n"
    assert http(stack, "SELECT getSetting('max_threads')", max_threads="3") == b"3\n"
    assert http(stack, "SELECT currentDatabase()", database="system") == b"system\n"
    assert http(stack, "SELECT 1 SETTINGS max_block_size = 7 FORMAT TSV SETTINGS max_threads = 1") == b"1\n"
    basic = {"Authorization": "Basic dXNlcjpwYXNz", "X-ClickHouse-User": "a", "X-ClickHouse-Key": "b"}
    assert http(stack, "SELECT 1", headers=basic) == b"1\n"
    packed = http(stack, "SELECT 1", headers={"Accept-Encoding": "gzip"}, enable_http_compression="1")
    assert packed[:2] == b"\x1f\x8b"


def test_curl_inserts_with_the_query_in_the_url_or_before_the_rows(stack: Stack, client: Client) -> None:
    database = str(client.database)
    client.command("CREATE TABLE t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
    http(stack, '1,"a"\n2,"b"\n', query="INSERT INTO t FORMAT CSV", database=database)
    http(stack, 'INSERT INTO t FORMAT JSONEachRow {"n":3,"s":"c"}', database=database)
    http(stack, "INSERT INTO t (n, s) VALUES (4, 'd'), (2 + 3, upper('e'))", database=database)
    http(stack, "(6, 'f')", query="INSERT INTO t VALUES", database=database)
    many = ", ".join(f"({n}, '{'x' * 90}')" for n in range(7, 20_007))
    assert len(many) > 1 << 20
    http(stack, f"INSERT INTO t VALUES {many}", database=database)
    assert http(stack, "SELECT n, s FROM t WHERE n < 7 ORDER BY n FORMAT CSV", database=database) == (
        b'1,"a"\n2,"b"\n3,"c"\n4,"d"\n5,"E"\n6,"f"\n'
    )
    assert http(stack, "SELECT count(), max(n) FROM t", database=database) == b"20006\t20006\n"


def test_get_changes_nothing(stack: Stack, client: Client) -> None:
    status, code, _ = refused(stack, query="CREATE TABLE t (n Int64) ENGINE = Memory", database=str(client.database))
    assert (status, code) == (403, "164")
    assert client.query("EXISTS TABLE t").first_row == (0,)


def test_readers_see_whole_inserts_while_others_insert(stack: Stack, client: Client) -> None:
    client.command("CREATE TABLE t (batch Int64, n Int64) ENGINE = MergeTree ORDER BY (batch, n)")
    rows, batches = 1000, 30
    done = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        with connect(stack, database=client.database) as reader:
            last = 0
            while not done.is_set():
                found = reader.query("SELECT count(), countDistinct(batch) FROM t").first_row
                if found[0] != rows * found[1] or found[0] < last:
                    wrong.append(found)
                last = found[0]

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for batch in range(batches):
            client.insert("t", [[batch, n] for n in range(rows)], column_names=["batch", "n"])
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert client.query("SELECT count() FROM t").first_row == (rows * batches,)


def test_clients_settings_hold_for_their_request_only(stack: Stack) -> None:
    with connect(stack, settings={"max_block_size": 11}) as client:
        assert client.query("SELECT getSetting('max_block_size')").first_row == (11,)
        client.command("SET max_block_size = 12")
    with connect(stack) as other:
        assert other.query("SELECT getSetting('max_block_size')").first_row[0] not in (11, 12)


def test_dataframes(client: Client) -> None:
    frame = client.query_df("SELECT number AS n, toString(number) AS s FROM numbers(3)")
    assert frame["n"].tolist() == [0, 1, 2]
    stream = client.raw_stream("SELECT number FROM numbers(3)", fmt="TSV")
    assert io.BytesIO(stream.read()).read() == b"0\n1\n2\n"
