"""Settings: one table, read as a whole, every fault at once, secrets never shown, none of them dead."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.errors import SettingsError, UsageError
from pipeline.settings import FILE, SECRETS, SETTINGS, UNREAD, Setting, Settings

ROOT = Path(__file__).parents[2]


def test_the_table_and_the_class_have_the_same_fields() -> None:
    assert [setting.field for setting in SETTINGS] == [field.name for field in dataclasses.fields(Settings)]


def test_defaults_are_complete() -> None:
    settings = Settings.load({})
    assert settings.namespace == "meterline"
    assert settings.max_past_ms == 35 * 86_400_000
    assert settings.cancel_window_ms is None


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("METERLINE_NAMESPACE", "Big"),
        ("METERLINE_NAMESPACE", "a-b"),
        ("METERLINE_NAMESPACE", "1a"),
        ("METERLINE_NAMESPACE", "a" * 41),
        ("METERLINE_KAFKA", "localhost"),
        ("METERLINE_KAFKA", "kafka://localhost:9092"),
        ("METERLINE_KAFKA", "a:9092, b:9092"),
        ("METERLINE_KAFKA_SECURITY", "TLS"),
        ("METERLINE_CLICKHOUSE", "localhost:8123"),
        ("METERLINE_SCHEMA_REGISTRY", "registry"),
        ("METERLINE_SNAPSHOT_EVERY", "5"),
        ("METERLINE_SNAPSHOT_EVERY", "5 m"),
        ("METERLINE_SNAPSHOT_EVERY", "-5m"),
        ("METERLINE_PARTITIONS", "0"),
        ("METERLINE_PARTITIONS", "1001"),
        ("METERLINE_PARTITIONS", "８"),
        ("METERLINE_PARTITIONS", "8.0"),
        ("METERLINE_EVENT_LOG", "yes"),
        ("METERLINE_MAX_EVENT_AGE", "0d"),
        ("METERLINE_CANCEL_WINDOW", "36d"),
        ("METERLINE_CANCEL_WINDOW", "0s"),
        ("METERLINE_KAFKAS", "127.0.0.1:9092"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.load({variable: text})


MAY_BE_EMPTY = {
    "METERLINE_KAFKA_CA",
    "METERLINE_SCHEMA_REGISTRY",
    "METERLINE_CLICKHOUSE_PASSWORD",
    "METERLINE_SNAPSHOTS",
    "METERLINE_CANCEL_WINDOW",
    "METERLINE_WEBHOOKS",
    "METERLINE_INSTANCE",
}
"""Each has nothing for its default, and its meaning says what that stands for."""


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_k1_an_empty_variable_is_no_wish_for_the_default(setting: Setting) -> None:
    """Else a SASL_SSL that got lost on its way would be PLAINTEXT, and an age of years 35 days."""
    if setting.variable in MAY_BE_EMPTY:
        assert "empty for " in setting.meaning
        assert repr(Settings.load({setting.variable: ""})) == repr(Settings.load({}))
        return
    with pytest.raises(SettingsError, match=f"{setting.variable}: .*empty: give it one, or unset the variable"):
        Settings.load({setting.variable: ""})


@pytest.mark.parametrize("variable", sorted(SECRETS))
def test_k1_an_empty_file_is_no_secret(variable: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    for path in (str(tmp_path / "secret"), ""):
        with pytest.raises(SettingsError, match=variable + FILE):
            Settings.load({variable + FILE: path})


@pytest.mark.parametrize("text", ["", "\n", "# what it said is gone\n", "METERLINE_NAMESPACE='fli"])
def test_k1_an_env_file_that_was_emptied_or_cut_off_is_not_taken_for_the_defaults(text: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(text)
    for read in (wiring.load_settings, wiring.settings_environ):
        with pytest.raises(UsageError, match=r"env is (empty|damaged).* or delete it for the defaults"):
            read({"METERLINE_HOME": str(tmp_path)})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({"METERLINE_KAFKA": "x", "METERLINE_PARTITIONS": "x", "METERLINE_TYPO": "x"})
    assert all(name in str(raised.value) for name in ("METERLINE_KAFKA", "METERLINE_PARTITIONS", "METERLINE_TYPO"))


def test_secrets_are_never_shown() -> None:
    settings = Settings.load({"METERLINE_KAFKA_PASSWORD": "hunter2", "METERLINE_CLICKHOUSE_PASSWORD": "hunter2"})
    assert "hunter2" not in f"{settings!r} {settings.kafka_password} {settings.clickhouse_password!r}"
    assert settings.kafka_password.reveal() == "hunter2"


def test_a_secret_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    settings = Settings.load({"METERLINE_KAFKA_PASSWORD_FILE": str(tmp_path / "password")})
    assert settings.kafka_password.reveal() == "hunter2"
    assert {"METERLINE_KAFKA_PASSWORD", "METERLINE_CLICKHOUSE_PASSWORD", "METERLINE_GATEWAY_SECRETS"} <= SECRETS


@pytest.mark.parametrize(
    "environ",
    [
        {"METERLINE_KAFKA_PASSWORD_FILE": "/nowhere/at/all"},
        {"METERLINE_KAFKA_PASSWORD_FILE": "/dev/null", "METERLINE_KAFKA_PASSWORD": "hunter2"},
        {"METERLINE_KAFKA_FILE": "/dev/null"},
    ],
    ids=["missing", "both", "no secret"],
)
def test_a_file_that_is_no_secret_of_ours_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environ))) as raised:
        Settings.load(environ)
    assert "hunter2" not in str(raised.value)


def test_credentials_reach_kafka_only_where_they_are_asked_for() -> None:
    plain = Settings.load({"METERLINE_KAFKA_PASSWORD": "hunter2"}).librdkafka
    assert plain == {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"}
    environ = {
        "METERLINE_KAFKA_SECURITY": "SASL_SSL",
        "METERLINE_KAFKA_USER": "meter",
        "METERLINE_KAFKA_PASSWORD": "hunter2",
        "METERLINE_KAFKA_CA": "/etc/ca.pem",
    }
    assert Settings.load(environ).librdkafka == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "meter",
        "sasl.password": "hunter2",
        "ssl.ca.location": "/etc/ca.pem",
    }


def test_the_environment_wins_over_what_the_stack_wrote_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "env").write_text(
        "# written by meterline up\nMETERLINE_KAFKA=127.0.0.1:19092\nexport METERLINE_NAMESPACE='flights'\n"
    )
    environ = {"METERLINE_HOME": str(home), "METERLINE_NAMESPACE": "mine", "PATH": "/bin"}
    settings = wiring.load_settings(environ)
    assert (settings.kafka, settings.namespace) == ("127.0.0.1:19092", "mine")


def test_without_a_stack_the_defaults_stand(tmp_path: Path) -> None:
    assert repr(wiring.load_settings({"METERLINE_HOME": str(tmp_path / "none")})) == repr(Settings.load({}))


def test_an_env_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    with pytest.raises(UsageError, match="env cannot be read"):
        wiring.load_settings({"METERLINE_HOME": str(tmp_path)})


def test_no_setting_is_dead() -> None:
    """Every field is used by wiring, the command line or another field's meaning."""
    readers = [ROOT / "pipeline" / "wiring.py", *(ROOT / "pipeline" / "cli").rglob("*.py")]
    text = "\n".join(path.read_text() for path in readers)
    settings_text = (ROOT / "pipeline" / "settings.py").read_text()
    unused = [
        field.name
        for field in dataclasses.fields(Settings)
        if not re.search(rf"\.{field.name}\b", text) and not re.search(rf"self\.{field.name}\b", settings_text)
    ]
    assert not unused


def test_every_setting_is_in_the_handbook() -> None:
    handbook = (ROOT / "pipeline" / "README.md").read_text()
    for setting in SETTINGS:
        assert f"`{setting.variable}`" in handbook, setting.variable
        assert setting.meaning in handbook, setting.variable
    assert all(f"`{variable}`" in handbook for variable in UNREAD)


def test_every_variable_that_is_mentioned_exists() -> None:
    """A variable in a message, a file or a manual that no setting reads would be a lie."""
    known = {setting.variable for setting in SETTINGS} | UNREAD | {"METERLINE_"} | {name + FILE for name in SECRETS}
    paths = [
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        *(ROOT / "pipeline").rglob("*.py"),
        *(ROOT / "pipeline").rglob("*.md"),
    ]
    paths += [path for path in (ROOT / "infra").rglob("*") if path.is_file()]
    mentioned = {name for path in paths for name in re.findall(r"\bMETERLINE_[A-Z_]*", path.read_text(errors="ignore"))}
    assert mentioned - known <= {"METERLINE_KAFKA_PASSWORD"}
