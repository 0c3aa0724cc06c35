"""Whoever reaches the endpoint gets at tables and at nothing else of this machine. FAULTS S15."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.statement import REACHING_OUT
from tests.conftest import Stack

SECRET = "a secret of this machine"


def post(stack: Stack, sql: str, headers: dict[str, str] | None = None, **query: str) -> tuple[int, str]:
    """ClickHouse's error code, 0 for none, and the text of the answer."""
    url = f"{stack.clickhouse}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, sql.encode(), headers or {}), timeout=30) as answer:
            return 0, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return int(error.headers["X-ClickHouse-Exception-Code"]), error.read().decode()


@pytest.fixture
def database(stack: Stack, namespace: str) -> Iterator[str]:
    assert post(stack, f"CREATE DATABASE {namespace}")[0] == 0
    assert post(stack, f"CREATE TABLE {namespace}.t (s String) ENGINE = MergeTree ORDER BY s")[0] == 0
    yield namespace
    post(stack, f"DROP DATABASE {namespace}")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that any process of this user can read."""
    path = tmp_path / "secret.csv"
    path.write_text(SECRET)
    return path


READS = (
    "SELECT * FROM file('{path}', 'LineAsString', 's String')",
    "SELECT file('{path}')",
    "SELECT * FROM `f\\x69le`('{path}', 'LineAsString', 's String')",
    "SELECT FILE /* a comment */ ('{path}')",
    "WITH x AS (SELECT file('{path}') AS s) SELECT s FROM x",
    "SELECT * FROM view(SELECT file('{path}') AS s)",
    "EXPLAIN SELECT * FROM file('{path}', 'LineAsString', 's String')",
    "DESCRIBE TABLE file('{path}')",
    "SELECT * FROM url('{url}', 'LineAsString', 's String')",
    "SELECT * FROM s3('{url}/bucket/key.csv', 'CSV', 's String')",
    "SELECT * FROM remote('{address}', 'system', 'one')",
    "SELECT * FROM mysql('{address}', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('{address}', 'd', 't', 'u', 'p')",
    "SELECT * FROM sqlite('{path}', 't')",
    "SELECT * FROM executable('sh', 'CSV', 's String')",
    "SELECT * FROM python(secret)",
    "SELECT 1 INTO OUTFILE '{path}.out'",
    "SYSTEM SHUTDOWN",
    "BACKUP DATABASE {database} TO File('{path}.backup')",
)
WRITES = (
    "INSERT INTO {database}.t FROM INFILE '{path}' FORMAT LineAsString",
    "INSERT INTO {database}.t FROM INFILE '{path}'",
    "INSERT INTO {database}.t SELECT file('{path}')",
    "INSERT INTO {database}.t SELECT * FROM file('{path}', 'LineAsString', 's String')",
    "INSERT INTO {database}.t VALUES (file('{path}'))",
    "INSERT INTO FUNCTION file('{path}.out', 'CSV', 's String') VALUES ('x')",
    "INSERT INTO FUNCTION url('{url}', 'CSV', 's String') VALUES ('x')",
    "CREATE TABLE {database}.f (s String) ENGINE = File(LineAsString, '{path}')",
    "CREATE TABLE {database}.f (s String) ENGINE = URL('{url}', 'LineAsString')",
    "CREATE TABLE {database}.f (s String) ENGINE = MySQL('{address}', 'd', 't', 'u', 'p')",
    "CREATE TABLE {database}.f AS file('{path}', 'LineAsString', 's String')",
    "CREATE TABLE {database}.f ENGINE = Memory AS SELECT file('{path}') AS s",
    "CREATE TABLE {database}.f (s String DEFAULT file('{path}')) ENGINE = Memory",
    "CREATE VIEW {database}.f AS SELECT file('{path}') AS s",
    "CREATE TABLE {database}.f (n Int8) ENGINE = MergeTree ORDER BY n SETTINGS disk = disk(type = web)",
    "CREATE DATABASE {database}_f ENGINE = Filesystem('/')",
    "CREATE DATABASE {database}_f ENGINE = Atomic SETTINGS disk = disk(type = 'local', path = '/tmp/')",
    "CREATE DICTIONARY {database}.f (n UInt64) PRIMARY KEY n SOURCE(FILE(PATH '{path}' FORMAT 'CSV')) LAYOUT(FLAT())",
    "CREATE FUNCTION f AS (x) -> x",
    "CREATE USER intruder",
    "GRANT FILE ON *.* TO default",
    "ATTACH TABLE {database}.f FROM '{path}' (s String) ENGINE = Memory",
)


@pytest.mark.parametrize("template", READS + WRITES)
def test_nothing_reaches_the_host_the_network_or_the_server(
    stack: Stack, database: str, secret: Path, template: str
) -> None:
    # The endpoint's own address stands for any server: were it asked, it would answer.
    url = f"{stack.clickhouse}/?query=SELECT%201"
    address = urllib.parse.urlsplit(stack.clickhouse).netloc
    sql = template.format(path=secret, url=url, address=address, database=database)
    before = sorted(secret.parent.iterdir())
    code, text = post(stack, sql, database=database)
    assert code, f"{sql} was executed: {text}"
    assert SECRET not in text
    assert sorted(secret.parent.iterdir()) == before
    assert post(stack, f"SELECT count() FROM {database}.t") == (0, "0\n")
    assert post(stack, f"EXISTS TABLE {database}.f") == (0, "0\n")


def test_every_table_function_of_the_engine_is_either_harmless_or_listed(stack: Stack) -> None:
    harmless = {
        *("dictionary", "format", "fuzzjson", "fuzzquery", "generate_series", "generaterandom", "generateseries"),
        *("input", "loop", "merge", "mergetreeanalyzeindexes", "mergetreeanalyzeindexesuuid", "mergetreeindex"),
        *("mergetreecodecblockcounts", "mergetreeprojection", "mergetreetextindex", "null", "numbers", "numbers_mt"),
        *("primes", "sqlstandardvalues", "timeseriesdata", "timeseriesmetricfamilies", "timeseriesmetrics"),
        *("timeseriessamples", "timeseriesselector", "timeseriestags", "values", "view", "viewexplain"),
        *("viewifpermitted", "zeros", "zeros_mt"),
    }
    _, text = post(stack, "SELECT DISTINCT lower(name) FROM system.table_functions FORMAT TSV")
    assert set(text.split()) - harmless - REACHING_OUT == set()


def test_a_query_cannot_lift_its_own_limits(stack: Stack) -> None:
    assert post(stack, "SELECT 1 SETTINGS max_memory_usage = 99000000000000")[0] == 452
    assert post(stack, "SELECT 1 SETTINGS max_memory_usage = 0")[0] == 452, "0 would mean none"
    assert post(stack, "SELECT 1 SETTINGS readonly = 0")[0] == 164
    assert post(stack, "SELECT getSetting('readonly')", readonly="0") == (0, "2\n")


def test_pages_from_elsewhere_are_turned_away(stack: Stack) -> None:
    assert post(stack, "SELECT 1", {"Origin": "https://evil.example"})[0] == 516
    assert post(stack, "SELECT 1", {"Host": "evil.example"})[0] == 516
    assert post(stack, "SELECT 1", {"Origin": "http://localhost:3000"}) == (0, "1\n")


def test_ordinary_words_are_no_functions(stack: Stack, database: str) -> None:
    words = "file('x'), url and python, remote(1) \\ "
    sql = f"INSERT INTO {database}.t FORMAT JSONEachRow {json.dumps({'s': words})}"
    assert post(stack, sql) == (0, "")
    assert post(stack, f"INSERT INTO {database}.t VALUES ('the file(1)')") == (0, "")
    assert post(stack, f"SELECT count() FROM {database}.t WHERE s LIKE '%file(%'") == (0, "2\n")
    assert post(stack, "SELECT 1 AS file, 2 AS url") == (0, "1\t2\n")
