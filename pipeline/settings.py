"""The one place that reads the environment.

Every setting is a row of ``SETTINGS``: its variable, how to read it, its default and one sentence. ``Settings.load``
validates them as a whole and reports every fault at once. Secrets are wrapped so that no log, repr or traceback
shows them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.domain.limits import FoldRules
from pipeline.errors import SettingsError

_DURATION = re.compile(r"^(\d+)(ms|s|m|h|d)$")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Secret:
    """A string that prints as stars."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"

    __str__ = __repr__


def duration_ms(text: str) -> int:
    """Milliseconds of ``30s`` and the like. Raises ValueError that says what is expected."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError("a whole number with a unit: 500ms, 30s, 5m, 24h or 35d")
    return int(match[1]) * _UNIT_MS[match[2]]


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _address(text: str) -> tuple[str, int]:
    """A host to listen on, with a port; 0 stands for any."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[^\s/]+", host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError("host:port to listen on")
    return host.strip("[]"), int(port)


def _address_or_off(text: str) -> tuple[str, int] | None:
    return None if text == "off" else _address(text)


def _namespace(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text):
        raise ValueError("1 to 40 of a-z, 0-9 and _, beginning with a letter")
    return text


def _servers(text: str) -> str:
    if not all(re.fullmatch(r"[^\s:,]+:\d{1,5}", part) for part in text.split(",")):
        raise ValueError("host:port, several separated by commas")
    return text


def _http_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise ValueError("a URL that begins with http:// or https://")
    return text.rstrip("/")


def _one_of(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError("one of " + ", ".join(names))
        return text

    return read


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text == "on"


def _secrets(text: str) -> Secret:
    """kid:secret pairs, checked but kept as text: see ``wiring.gateway_secrets``."""
    pairs = [part.partition(":") for part in text.split(",")] if text else []
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", kid) and len(secret) >= 32 for kid, _, secret in pairs):
        raise ValueError("name:secret, several separated by commas, each secret of at least 32 characters")
    if len({kid for kid, _, _ in pairs}) < len(pairs):
        raise ValueError("each name once")
    return Secret(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One row: the field of Settings, its variable, how it is read, its default text and what it means."""

    field: str
    variable: str
    read: Callable[[str], Any]
    default: str
    meaning: str

    @property
    def may_be_empty(self) -> bool:
        """Where its meaning says what that stands for. Elsewhere an empty text is a mistake, and no wish for the default."""
        return "empty for " in self.meaning


# fmt: off
SETTINGS: tuple[Setting, ...] = (
    Setting("namespace", "METERLINE_NAMESPACE", _namespace, "meterline", "prefix of topics, groups, state and ClickHouse database; one deployment is one account"),
    Setting("kafka", "METERLINE_KAFKA", _servers, "127.0.0.1:9092", "Kafka bootstrap servers"),
    Setting("kafka_security", "METERLINE_KAFKA_SECURITY", _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), "PLAINTEXT", "Kafka security protocol"),
    Setting("kafka_mechanism", "METERLINE_KAFKA_MECHANISM", _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "SCRAM-SHA-512", "SASL mechanism"),
    Setting("kafka_user", "METERLINE_KAFKA_USER", str, "", "SASL user"),
    Setting("kafka_password", "METERLINE_KAFKA_PASSWORD", Secret, "", "SASL password"),
    Setting("kafka_ca", "METERLINE_KAFKA_CA", str, "", "file of the CA certificates that sign the brokers'; empty for the system's"),
    Setting("schema_registry", "METERLINE_SCHEMA_REGISTRY", lambda text: _http_url(text) if text else "", "", "URL of a Confluent schema registry; empty for Avro single-object encoding"),
    Setting("clickhouse", "METERLINE_CLICKHOUSE", _http_url, "http://127.0.0.1:8123", "URL of ClickHouse's HTTP interface"),
    Setting("clickhouse_user", "METERLINE_CLICKHOUSE_USER", str, "default", "ClickHouse user"),
    Setting("clickhouse_password", "METERLINE_CLICKHOUSE_PASSWORD", Secret, "", "ClickHouse password; empty for none"),
    Setting("state", "METERLINE_STATE", Path, "meterline-state", "directory of this worker's own RocksDB stores; {slot} in it becomes the first number that no running worker uses, for workers that share a volume; a sink keeps next to nothing in its own"),
    Setting("snapshots", "METERLINE_SNAPSHOTS", str, "", "fsspec URL of the snapshot store, for example file:///var/lib/meterline/snapshots or s3://bucket/prefix; empty for none"),
    Setting("snapshot_every_ms", "METERLINE_SNAPSHOT_EVERY", duration_ms, "5m", "how often a partition's state is copied to the snapshot store"),
    Setting("partitions", "METERLINE_PARTITIONS", _whole(1, 1_000), "8", "journal partitions, fixed when the topics are created"),
    Setting("replication", "METERLINE_REPLICATION", _whole(1, 7), "1", "replicas of each topic when it is created"),
    Setting("max_past_ms", "METERLINE_MAX_EVENT_AGE", duration_ms, "35d", "how old an event may be when it is appended; part of the fold's version"),
    Setting("max_ahead_ms", "METERLINE_MAX_EVENT_AHEAD", duration_ms, "5m", "how far in the future an event may be; part of the fold's version"),
    Setting("cancel_window_ms", "METERLINE_CANCEL_WINDOW", lambda text: duration_ms(text) if text else None, "", "how long after its append an event can be taken back; empty for as long as identifiers are remembered; part of the fold's version"),
    Setting("flush_every_ms", "METERLINE_FLUSH_EVERY", duration_ms, "250ms", "longest time the worker holds folded records before it publishes"),
    Setting("flush_records", "METERLINE_FLUSH_RECORDS", _whole(1, 5_000_000), "200000", "most records the worker holds before it publishes"),
    Setting("sink_every_ms", "METERLINE_SINK_EVERY", duration_ms, "250ms", "longest time the sink gathers rows before an insert"),
    Setting("sink_rows", "METERLINE_SINK_ROWS", _whole(1, 1_000_000), "50000", "most rows in one insert"),
    Setting("event_log", "METERLINE_EVENT_LOG", _switch, "on", "whether the sink copies the journal into meter_events"),
    Setting("gateway_listen", "METERLINE_GATEWAY_LISTEN", _address, "127.0.0.1:8484", "where the gateway answers; put TLS in front of any address but the loopback's"),
    Setting("gateway_metrics", "METERLINE_GATEWAY_METRICS", _address_or_off, "127.0.0.1:8485", "where the gateway tells Prometheus its metrics, never to be reached from outside; off for nowhere"),
    Setting("gateway_requests", "METERLINE_GATEWAY_REQUESTS", _whole(2, 100_000), "256", "most requests that append usage, and most others, that a gateway works on at once; what is more hears 429"),
    Setting("gateway_secrets", "METERLINE_GATEWAY_SECRETS", _secrets, "", "name:secret, several separated by commas: keys the hashes of API keys and signs sessions; the first one is used for new ones; the same on every gateway"),
    Setting("webhooks", "METERLINE_WEBHOOKS", Secret, "", "endpoints that hear of events: URL SECRET [live or test] [TYPE ...], separated by ; or line ends; types as in plan.created or billing.meter.*; empty for none"),
    Setting("instance", "METERLINE_INSTANCE", str, "", "this worker's name among the workers, or this sink's among the sinks, no other's: whoever starts again under its name within METERLINE_SESSION_TIMEOUT has its partitions back at once, and none moves; of two living ones of one name the one that was there first ends; {slot} in it becomes the number in METERLINE_STATE; empty for none"),
    Setting("session_timeout_ms", "METERLINE_SESSION_TIMEOUT", duration_ms, "10s", "how long a silent worker or sink keeps its partitions"),
)
# fmt: on

FILE = "_FILE"
SECRETS = frozenset(setting.variable for setting in SETTINGS if isinstance(setting.read(setting.default), Secret))
"""Settings that may stand in a file instead, which the variable with ``_FILE`` behind its name leads to."""


def _text(setting: Setting, environ: Mapping[str, str]) -> str:
    """What the environment says of a setting, else its default. Raises ValueError."""
    variable = setting.variable
    path = environ.get(variable + FILE) if variable in SECRETS else None
    if path is None:
        text = environ.get(variable, setting.default)
        if not text and variable in environ and not setting.may_be_empty:
            raise ValueError("a value, and it is empty: give it one, or unset the variable")
        return text
    if environ.get(variable):
        raise ValueError(f"{variable} or {variable}{FILE}, not both")
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{variable}{FILE} to lead to a file that can be read: {error}") from error
    if not text:
        raise ValueError(f"a secret in {path}, and that is empty: write it there, or unset {variable}{FILE}")
    return text


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process. Times are int milliseconds."""

    namespace: str
    kafka: str
    kafka_security: str
    kafka_mechanism: str
    kafka_user: str
    kafka_password: Secret
    kafka_ca: str
    schema_registry: str
    clickhouse: str
    clickhouse_user: str
    clickhouse_password: Secret
    state: Path
    snapshots: str
    snapshot_every_ms: int
    partitions: int
    replication: int
    max_past_ms: int
    max_ahead_ms: int
    cancel_window_ms: int | None
    flush_every_ms: int
    flush_records: int
    sink_every_ms: int
    sink_rows: int
    event_log: bool
    gateway_listen: tuple[str, int]
    gateway_metrics: tuple[str, int] | None
    gateway_requests: int
    gateway_secrets: Secret
    webhooks: Secret
    instance: str
    session_timeout_ms: int

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Settings:
        """Read every setting from ``environ``. Raises SettingsError that names each faulty or unknown variable."""
        known = {setting.variable for setting in SETTINGS} | {name + FILE for name in SECRETS}
        faults = [
            f"{name}: no such setting"
            for name in sorted(environ)
            if name.startswith("METERLINE_") and name not in known and name not in UNREAD
        ]
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            try:
                values[setting.field] = setting.read(_text(setting, environ))
            except ValueError as error:
                faults.append(f"{setting.variable}: expected {error}")
        if not faults:
            try:
                FoldRules(values["max_past_ms"], values["max_ahead_ms"], values["cancel_window_ms"])
            except ValueError as error:
                faults.append(f"METERLINE_MAX_EVENT_AGE, METERLINE_MAX_EVENT_AHEAD, METERLINE_CANCEL_WINDOW: {error}")
        if faults:
            raise SettingsError("settings: " + "; ".join(faults))
        return cls(**values)

    @property
    def rules(self) -> FoldRules:
        return FoldRules(self.max_past_ms, self.max_ahead_ms, self.cancel_window_ms)

    @property
    def librdkafka(self) -> dict[str, str]:
        """How every confluent-kafka client of this process connects."""
        config = {"bootstrap.servers": self.kafka, "security.protocol": self.kafka_security}
        if self.kafka_security.startswith("SASL"):
            config |= {
                "sasl.mechanism": self.kafka_mechanism,
                "sasl.username": self.kafka_user,
                "sasl.password": self.kafka_password.reveal(),
            }
        if self.kafka_ca:
            config["ssl.ca.location"] = self.kafka_ca
        return config


UNREAD = frozenset({"METERLINE_HOME", "METERLINE_TEST_STACK", "METERLINE_DEMO_ON_DEPLOYMENT", "METERLINE_COMMAND"})
"""Variables that belong to the laptop stack and the command line, not to a process's settings."""
