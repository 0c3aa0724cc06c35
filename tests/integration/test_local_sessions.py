"""A statement asked again meets an engine that is ready for it, and an answer that knows nothing of the one before."""

from __future__ import annotations

import concurrent.futures
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.local.clickhouse_http import Request
from pipeline.local.clickhouse_sessions import Session, Sessions, Statement
from tests.conftest import Stack

Ask = Callable[..., str]


@pytest.fixture
def ask(stack: Stack, namespace: str) -> Iterator[Ask]:
    """Asks by POST, in the test's own database unless another is named."""

    def post(sql: str, **query: str) -> str:
        url = f"{stack.clickhouse}/?{urllib.parse.urlencode({'database': namespace} | query)}"
        with urllib.request.urlopen(urllib.request.Request(url, data=sql.encode()), timeout=60) as answer:
            return str(answer.read().decode())

    post(f"CREATE DATABASE {namespace}", database="default")
    yield post
    post(f"DROP DATABASE {namespace}", database="default")


def refused(ask: Ask, sql: str, **query: str) -> str:
    """ClickHouse's code of a refusal, said before any part of a result."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(sql, **query)
    with raised.value as answer:
        return str(answer.headers["X-ClickHouse-Exception-Code"])


def test_parameters_settings_and_databases_are_those_of_the_request(ask: Ask, namespace: str) -> None:
    sql = "SELECT {x:String}, getSetting('max_threads'), currentDatabase()"
    for threads in ("1", "3", "1"):
        for database in ("default", namespace):
            for text in ("a", "b'; --"):
                found = ask(sql, database=database, max_threads=threads, param_x=text)
                assert found == f"{text}\t{threads}\t{database}\n".replace("'", "\\'")
    assert refused(ask, sql) == "456"
    assert ask("SELECT {y:String}", param_x="of another", param_y="b") == "b\n"


def test_a_statements_own_settings_end_with_it(ask: Ask) -> None:
    default = ask("SELECT getSetting('max_block_size')")
    for _ in range(2):
        assert ask("SELECT getSetting('max_block_size') SETTINGS max_block_size = 7") == "7\n"
        assert ask("SELECT getSetting('max_block_size')") == default


def test_a_table_that_was_made_anew_is_read_anew(ask: Ask) -> None:
    for number, kind in enumerate(("Int64", "String", "Int64")):
        ask(f"CREATE TABLE t (n {kind}) ENGINE = MergeTree ORDER BY n")
        assert ask("SELECT n, toTypeName(n) FROM t") == ""
        ask(f"INSERT INTO t VALUES ({number})" if kind == "Int64" else f"INSERT INTO t VALUES ('{number}')")
        assert ask("SELECT n, toTypeName(n) FROM t") == f"{number}\t{kind}\n"
        ask("DROP TABLE t")
        assert refused(ask, "SELECT n, toTypeName(n) FROM t") == "60"


def test_a_database_that_is_gone_is_gone(ask: Ask, namespace: str) -> None:
    for _ in range(2):
        ask(f"CREATE DATABASE {namespace}_2")
        ask("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n", database=f"{namespace}_2")
        assert ask("SELECT count() FROM t", database=f"{namespace}_2") == "0\n"
        ask(f"DROP DATABASE {namespace}_2")
        assert refused(ask, "SELECT count() FROM t", database=f"{namespace}_2") == "81"


def test_after_an_error_the_same_statement_is_answered(ask: Ask) -> None:
    sql = "SELECT throwIf({n:UInt8} = 1)"
    for _ in range(3):
        assert ask(sql, param_n="0") == "0\n"
        assert refused(ask, sql, param_n="1") == "395"


def test_reads_stay_reads(ask: Ask) -> None:
    ask("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
    for _ in range(3):
        ask("INSERT INTO t SELECT 1")
        ask("SELECT count() FROM t")
    assert ask("SELECT count() FROM t") == "3\n"


@pytest.mark.parametrize("rows", [10, 400_000])
def test_an_answer_that_is_waited_for_is_whole_or_an_error(ask: Ask, rows: int) -> None:
    """In memory or beyond: the first rows of a result that fails later are never sent as a success."""
    sql = f"SELECT number, throwIf(number = {{n:UInt64}}) FROM numbers({rows}) SETTINGS max_threads = 1"
    for _ in range(2):
        assert len(ask(sql, wait_end_of_query="1", param_n=str(rows)).splitlines()) == rows
        assert refused(ask, sql, wait_end_of_query="1", param_n=str(rows - 1)) == "395"


def test_one_statement_from_many_at_once(ask: Ask) -> None:
    def mine(number: int) -> bool:
        return ask("SELECT {n:UInt64}, sleepEachRow(0.01)", param_n=str(number)) == f"{number}\t0\n"

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert all(pool.map(mine, range(200)))


class Connection:
    """Stands for the engine's."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def statement(sql: str, **settings: str) -> Statement:
    return Statement.of(Request(sql, None, "", "Native", "d", settings, {}, readonly=False, whole=False))


def session(*, taken: bool) -> Session:
    made = Session(Connection())
    chunks = made.until_taken(iter((b"a", b"b")))
    assert next(chunks) == b"a"
    if taken:
        assert list(chunks) == [b"b"]
    return made


def test_only_an_answer_that_was_taken_whole_leaves_a_connection_to_go_on_with() -> None:
    sessions = Sessions()
    broken, whole = session(taken=False), session(taken=True)
    sessions.give_back(statement("SELECT 1"), broken)
    sessions.give_back(statement("SELECT 2"), whole)
    assert (broken.connection.closed, whole.connection.closed) == (1, 0)
    assert sessions.take(statement("SELECT 1")) is None
    assert sessions.take(statement("SELECT 2", max_threads="1")) is None
    assert sessions.take(statement("SELECT 2")) is whole
    assert sessions.take(statement("SELECT 2")) is None, "nobody else has it"


def test_no_more_than_so_many_stay_open() -> None:
    sessions, given = Sessions(), [session(taken=True) for _ in range(100)]
    for number, one in enumerate(given):
        sessions.give_back(statement(f"SELECT {number}"), one)
    still = [one for one in given if not one.connection.closed]
    assert still == given[-len(still) :], "the oldest go first"
    assert 0 < len(still) < 100
    long = session(taken=True)
    sessions.give_back(statement("SELECT 1 -- " + "x" * 100_000), long)
    assert long.connection.closed == 1
    sessions.close()
    assert [one.connection.closed for one in given] == [1] * 100


def test_sessions_are_each_taken_once() -> None:
    sessions, wanted = Sessions(), statement("SELECT 1")
    for _ in range(20):
        sessions.give_back(wanted, session(taken=True))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(sessions.take(wanted))) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found if one is not None}) == 20
