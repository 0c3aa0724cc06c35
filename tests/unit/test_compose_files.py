"""docker-compose.yml, its additions and our image's recipe, read as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.kafka.access import USERS
from pipeline.settings import FILE, SECRETS, SETTINGS, UNREAD
from pipeline.stream.slots import SLOT

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.ha.yml", "docker-compose.security.yml")
OURS = {"worker", "sink", "gateway"}


def services(name: str) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load((ROOT / name).read_text())["services"])


def pins(path: str) -> dict[str, str]:
    """A lock file's packages with all that stands behind them: version, marker, hashes."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / path).read_text(), flags=re.MULTILINE)
    return {block.split(" \\")[0]: block.strip() for block in re.split(r"\n(?=[a-z])", text) if block.strip()}


def test_the_image_takes_its_packages_from_the_repositorys_lock() -> None:
    """`make lock` writes both."""
    image, repository = pins("infra/docker/requirements.lock"), pins("requirements.lock")
    assert len(image) > 40
    assert image.items() <= repository.items()


@pytest.mark.parametrize("name", FILES)
def test_every_setting_exists_and_no_secret_stands_inline(name: str) -> None:
    known = {setting.variable for setting in SETTINGS} | {variable + FILE for variable in SECRETS} | UNREAD
    for service, content in services(name).items():
        given = {key for key in content.get("environment", {}) if key.startswith("METERLINE_")}
        assert given <= known, service
        assert not given & SECRETS, service


def test_one_name_for_each_image() -> None:
    text = "".join((ROOT / name).read_text() for name in FILES)
    names = set(re.findall(r"image: (\S+)", text))
    assert len(names) == len({name.partition(":")[0] for name in names}) == 3
    recipe = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", recipe, re.MULTILINE))
    assert len(set(re.findall(r"^FROM (\S+)", recipe, re.MULTILINE)) - stages) == 1


def test_containers_run_what_the_laptop_runs() -> None:
    """The same Kafka, and the server of the same engine."""
    images = dict(one["image"].split(":") for one in services("docker-compose.yml").values() if "image" in one)
    pom = (ROOT / "infra" / "kafka" / "pom.xml").read_text()
    assert f"<version>{images['apache/kafka']}</version>" in pom
    engine = re.search(r"^chdb-core==(\d+\.\d+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert engine
    assert images["clickhouse/clickhouse-server"] == engine[1]


def test_whatever_runs_always_is_restarted_limited_and_asked_for_its_health() -> None:
    found = services("docker-compose.yml")
    for name in OURS | {"kafka", "clickhouse"}:
        assert found[name]["restart"] == "unless-stopped"
        assert found[name]["mem_limit"]
        assert found[name]["healthcheck"]["test"]
        assert found[name]["logging"]["options"]["max-size"]
    for name in OURS:
        assert found[name]["healthcheck"]["test"] == ["CMD", "meterline", "health", name]


@pytest.mark.parametrize("name", ["worker", "sink"])
def test_replicas_share_a_volume_and_each_has_a_name_and_a_directory_of_its_own(name: str) -> None:
    found = services("docker-compose.yml")[name]
    assert found["environment"]["METERLINE_INSTANCE"] == f"{name}-{SLOT}"
    directory, _, own = found["environment"]["METERLINE_STATE"].rpartition("/")
    assert own == f"{name}-{SLOT}"
    assert f"{name}-state:{directory}" in found["volumes"]


def test_what_is_published_is_published_on_this_machine_alone() -> None:
    for name in FILES:
        for service, content in services(name).items():
            assert all(str(port).startswith("127.0.0.1:") for port in content.get("ports", [])), service


def test_every_part_has_its_own_kafka_user_where_there_are_users() -> None:
    found = services("docker-compose.security.yml")
    for user in USERS:
        environ = found[user]["environment"]
        assert environ["METERLINE_KAFKA_USER"] == user
        assert environ["METERLINE_KAFKA_PASSWORD_FILE"].endswith(f"/kafka-{user}")
        assert environ["METERLINE_KAFKA_SECURITY"] == "SASL_SSL"
    kafka = found["kafka"]["environment"]
    assert "PLAINTEXT" not in "".join(map(str, kafka.values()))
    assert kafka["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"


@pytest.mark.parametrize(
    ("service", "user"),
    [("migrations", "admin"), ("sink", "writer"), ("gateway", "reader"), ("cli", "reader"), ("worker", None)],
)
def test_every_part_is_the_clickhouse_user_that_it_needs_to_be(service: str, user: str | None) -> None:
    environ = services("docker-compose.yml")[service]["environment"]
    wanted = user and (f"meterline_{user}", f"/var/lib/meterline/secrets/clickhouse-{user}")
    given = (environ.get("METERLINE_CLICKHOUSE_USER"), environ.get("METERLINE_CLICKHOUSE_PASSWORD_FILE"))
    assert given == (wanted or (None, None))


def test_three_brokers_keep_three_copies() -> None:
    found = services("docker-compose.ha.yml")
    for broker in ("kafka", "kafka-2", "kafka-3"):
        environ = found[broker]["environment"]
        assert (environ["KAFKA_DEFAULT_REPLICATION_FACTOR"], environ["KAFKA_MIN_INSYNC_REPLICAS"]) == (3, 2)
        assert environ["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == 3
    assert found["topics"]["environment"]["METERLINE_REPLICATION"] == 3


def test_a_broker_of_three_is_the_broker_of_one() -> None:
    """A file cannot take another's anchors, so the two could drift apart."""
    one = services("docker-compose.yml")["kafka"]
    three = services("docker-compose.ha.yml")
    for name in ("kafka-2", "kafka-3"):
        own = three[name]["environment"]
        differ = {key for key in one["environment"] if own.get(key) != one["environment"][key]}
        assert differ == {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS", *three["kafka"]["environment"]}
        assert three[name]["image"] == one["image"]
        assert three[name]["healthcheck"] == one["healthcheck"]
