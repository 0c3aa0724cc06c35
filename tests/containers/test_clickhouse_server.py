"""ClickHouse's own server with our users: who may come, and what each may do. Only where its image is, not a stand-in.

The rights themselves are also tried on the same engine in tests/integration/test_clickhouse_users.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from tests.containers import engine
from tests.containers.compose import Compose
from tests.containers.pair import serves
from tests.workers import until

SECRETS = "/var/lib/meterline/secrets"


@pytest.fixture(scope="module")
def up() -> Iterator[Compose]:
    with Compose() as compose:
        compose.up()
        until(lambda: serves(f"{compose.gateway_url}/health/ready"), "the gateway is ready")
        yield compose


def client(compose: Compose, user: str, password: str | None = None) -> Client:
    if password is None:
        (gateway,) = compose.containers("gateway")
        password = engine.docker_cli("exec", gateway, "cat", f"{SECRETS}/clickhouse-{user.removeprefix('meterline_')}")
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=compose.clickhouse_port, username=user, password=password, database="meterline"
    )


@pytest.mark.parametrize("user", ["meterline_reader", "meterline_writer", "meterline_admin", "default"])
@pytest.mark.parametrize("password", ["", "guessed"])
def test_s15_nobody_comes_without_the_password(up: Compose, user: str, password: str) -> None:
    with pytest.raises(Error):
        client(up, user, password)


def test_s15_the_reader_reads_and_nothing_else(up: Compose) -> None:
    reader = client(up, "meterline_reader")
    assert reader.query("SELECT count() FROM summary_shards").result_rows == [(0,)]
    for sql in (
        "INSERT INTO summary_shards_g1 SELECT * FROM summary_shards_g1 WHERE 0",
        "DROP TABLE summary_shards_g1",
        "SELECT * FROM file('/etc/passwd', LineAsString)",
        "SELECT * FROM url('http://127.0.0.1:8123/', LineAsString)",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SYSTEM FLUSH LOGS",
        "SELECT 1 SETTINGS max_memory_usage = 0",
    ):
        with pytest.raises(Error):
            reader.command(sql)


def test_s15_the_writer_inserts_and_changes_nothing(up: Compose) -> None:
    writer = client(up, "meterline_writer")
    writer.command("INSERT INTO summary_shards_g1 SELECT * FROM summary_shards_g1 WHERE 0")
    for sql in ("DROP TABLE summary_shards_g1", "TRUNCATE TABLE summary_shards_g1", "CREATE USER me"):
        with pytest.raises(Error):
            writer.command(sql)
