"""The users that infra/clickhouse/users.d gives a server, tried on the same engine, one process as each of them.

A server asks for their passwords, which chDB does not: that is for tests/containers/test_clickhouse_server.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pipeline.clickhouse.migrations import known_migrations

ROOT = Path(__file__).parents[2]
USERS_FILE = ROOT / "infra" / "clickhouse" / "users.d" / "meterline.xml"
ASK = """
import json, sys
import chdb

connection = chdb.connect(sys.argv[1])
said = []
for sql in json.load(sys.stdin):
    try:
        connection.query(sql)
        said.append("")
    except RuntimeError as error:
        said.append(str(error))
json.dump(said, sys.stdout)
"""
SQL = "\n".join(text for migration in known_migrations() for text in migration.statements)
TABLES = sorted(set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SQL)) - set(re.findall(r"VIEW (\w+)", SQL)))
REFUSED = re.compile("ACCESS_DENIED|READONLY|SETTING_CONSTRAINT_VIOLATION|UNKNOWN_FUNCTION|AUTHENTICATION_FAILED")


class Database:
    """A data directory that one process after another opens, as one of the users."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def say(self, user: str, *statements: str) -> list[str]:
        """What the engine answers this user to each statement: an error, or nothing."""
        config = self._directory / user
        config.mkdir(exist_ok=True)
        (config / "config.xml").write_text((ROOT / "infra" / "chdb" / "config.xml").read_text())
        (config / "users.xml").write_text(alone(user))
        address = f"{self._directory / 'data'}?config-file={config / 'config.xml'}"
        ended = subprocess.run(
            [sys.executable, "-c", ASK, address],
            input=json.dumps(["USE meterline", *statements] if user != "meterline_admin" else statements),
            capture_output=True,
            text=True,
            check=True,
            cwd=config,
        )
        said = json.loads(ended.stdout)
        return list(said if user == "meterline_admin" else said[1:])


def alone(user: str) -> str:
    """The file with this user as the engine's only one, who comes without a password."""
    tree = ElementTree.fromstring(USERS_FILE.read_text())
    users = tree.find("users")
    assert users is not None
    for other in list(users):
        users.remove(other) if other.tag != user else None
    (mine,) = users
    mine.tag = "default"
    password = mine.find("password_sha256_hex")
    assert password is not None
    assert password.attrib["incl"]
    mine.remove(password)
    ElementTree.SubElement(mine, "password")
    include = tree.find("include_from")
    assert include is not None
    tree.remove(include)
    profiles, profile = tree.find("profiles"), mine.find("profile")
    assert profiles is not None
    assert profile is not None
    chosen = profiles.find(str(profile.text))
    assert chosen is not None
    for one in list(profiles):
        profiles.remove(one)
    chosen.tag = "default"
    profiles.append(chosen)
    profile.text = "default"
    return ElementTree.tostring(tree, encoding="unicode")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Migrated by the user who is there for that."""
    made = Database(tmp_path_factory.mktemp("users"))
    statements = [text for migration in known_migrations() for text in migration.statements]
    said = made.say("meterline_admin", "CREATE DATABASE IF NOT EXISTS meterline", "USE meterline", *statements)
    assert not [answer for answer in said if answer]
    return made


def test_the_writer_inserts_and_changes_nothing_else(database: Database) -> None:
    good = [f"INSERT INTO {table} SELECT * FROM {table} WHERE 0" for table in TABLES]
    bad = [
        "DROP TABLE summary_shards_g1",
        "TRUNCATE TABLE summary_shards_g1",
        "ALTER TABLE summary_shards_g1 DELETE WHERE 1",
        "CREATE TABLE meterline.mine (x UInt8) ENGINE = Memory",
        "CREATE DATABASE mine",
        "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)",
        "SYSTEM FLUSH LOGS",
    ]
    said = database.say("meterline_writer", *good, *bad)
    assert said[: len(good)] == [""] * len(good)
    assert all(REFUSED.search(answer) for answer in said[len(good) :]), said


def test_the_reader_reads_and_nothing_else(database: Database) -> None:
    """S15, as far as the engine alone shows it."""
    good = [*(f"SELECT * FROM {table} LIMIT 1" for table in TABLES), "SELECT count() FROM summary_shards"]
    good.append("SELECT count() FROM summary_shards SETTINGS max_execution_time = 5, max_memory_usage = 100000000")
    # What the views show, as pipeline/clickhouse/generations.py looks it up.
    views = "database = 'meterline' AND name IN ('summary_shards', 'dispositions') AND match(as_select, '_g1')"
    good.append(f"SELECT throwIf(count() != 2) FROM system.tables WHERE {views}")
    bad = [
        "INSERT INTO summary_shards_g1 SELECT * FROM summary_shards_g1 LIMIT 0",
        "DROP TABLE summary_shards_g1",
        "CREATE TABLE meterline.mine (x UInt8) ENGINE = Memory",
        "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SYSTEM FLUSH LOGS",
        "SET readonly = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS max_rows_to_read = 0",
        "SELECT 1 SETTINGS max_execution_time = 3600",
        "CREATE USER me",
    ]
    said = database.say("meterline_reader", *good, *bad)
    assert said[: len(good)] == [""] * len(good)
    assert all(REFUSED.search(answer) for answer in said[len(good) :]), said


def test_no_password_stands_in_the_file() -> None:
    users = ElementTree.fromstring(USERS_FILE.read_text()).find("users")
    assert users is not None
    assert {one.tag for one in users} == {"meterline_admin", "meterline_writer", "meterline_reader"}
    for one in users:
        kinds = [child.tag for child in one if "password" in child.tag]
        assert kinds == ["password_sha256_hex"]
