"""``meterline changes`` on real Kafka: two gateways that race are whole, and what is done to their log is named."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import wiring
from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey
from pipeline.domain.chain import BY, FOLLOWS, NOTHING, extended
from pipeline.kafka import admin
from pipeline.kafka.producer import Publisher
from pipeline.kafka.reading import Record, read
from pipeline.kafka.topics import ADJUSTMENTS, CATALOG, GENERATIONS, Topics
from tests.changes import CATALOG_LOG, ROUNDS, Said, World, changed_world, entity, meterline, verified
from tests.conftest import Stack


@pytest.fixture(scope="module")
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with changed_world(stack, tmp_path_factory.mktemp("changes")) as found:
        yield found


def test_s27_what_two_gateways_and_the_command_line_wrote_is_whole(world: World) -> None:
    assert (world.said.code, world.said.findings, world.said.report["known"]) == (0, [], [])
    of = world.said.of()
    assert (of["records"], of["unlinked"]) == (len(world.log), 0)
    assert of["kinds"]["ApiKey"] == 6, "three were made, one was rolled (its end and its successor) and revoked"
    assert of["kinds"]["Meter"] == ROUNDS + 1 + of["void"]
    assert world.said.of("generations/0")["kinds"] == {"Generation": 3}
    adjustments = [one for one in world.said.report["logs"] if one["log"].startswith("meter-event-adjustments/")]
    assert sum(one["kinds"].get("Adjustment", 0) for one in adjustments) == 5
    assert verified(world.home).report == world.said.report


def test_who_changed_what_is_told(world: World) -> None:
    code, output = meterline(world.home, "changes", "--list")
    assert code == 0
    operator = wiring.operator(world.home.settings)
    lines = [line for line in output.splitlines() if re.match(rf"{CATALOG_LOG}:\d", line)]
    assert len(lines) == len(world.log)
    of_key = [line.partition("Z  ")[2] for line in lines if world.made in line]
    assert of_key == [
        f"{operator}  {entity('ApiKey', world.made)}: made",
        f"{operator}  {entity('ApiKey', world.new)}: made in place of {world.made}",
        f"{operator}  {entity('ApiKey', world.made)}: changed expires_at",
        f"{operator}  {entity('ApiKey', world.made)}: changed revoked_at",
    ]
    assert any(line.endswith(f"  {world.api_key}  {entity('Meter', world.contested[0])}: made") for line in lines)
    assert f"  {operator}  Generation 2: live" in output
    assert "takes back e3 of calls" in output
    assert output.splitlines()[-1].endswith("changes: nothing was removed or altered")


@pytest.fixture
def copied(world: World, stack: Stack) -> Callable[[list[Record]], str]:
    """Writes a catalog's log into a namespace of its own, as it is."""

    def copy(log: list[Record]) -> str:
        namespace = f"t{secrets.token_hex(6)}"
        config = {"bootstrap.servers": stack.kafka}
        admin.create_topics(config, Topics(namespace), [CATALOG, GENERATIONS, ADJUSTMENTS], 1, 1)
        publisher = Publisher(config)
        for one in log:
            headers = [(name, said if isinstance(said, bytes) else b"") for name, said in one.headers]
            publisher.publish(Topics(namespace).catalog, one.key, one.value, partition=0, headers=headers)
        publisher.flush(30)
        return namespace

    return copy


def place_of(world: World, id_: str, version: int) -> int:
    codec = Codec()
    found = [codec.decode_catalog(record.value) for record in world.log]
    return next(place for place, one in enumerate(found) if (one.id, one.version) == (id_, version))


def assert_named(said: Said, namespace: str, offset: int, *words: str) -> None:
    assert said.code == 1
    named = [one for one in said.findings if one["topic"] == Topics(namespace).catalog and one["partition"] == 0]
    assert offset in [one["offset"] for one in named], said.findings
    told = json.dumps(named)
    assert not [word for word in words if word not in told], told


def test_s27_an_honest_copy_has_the_same_head(world: World, copied: Callable[[list[Record]], str]) -> None:
    said = verified(world.home, copied(world.log))
    assert (said.code, said.findings, said.head()) == (0, [], world.said.head())


def test_s27_a_removed_record_is_missed(world: World, copied: Callable[[list[Record]], str]) -> None:
    """A revocation, which no later version follows, and the end of a rolled key, which one does."""
    place = place_of(world, world.made, 3)
    assert place < len(world.log) - 1
    namespace = copied(world.log[:place] + world.log[place + 1 :])
    assert_named(verified(world.home, namespace), namespace, place, "some are gone")
    place = place_of(world, world.made, 2)
    namespace = copied(world.log[:place] + world.log[place + 1 :])
    said = verified(world.home, namespace)
    assert_named(said, namespace, place, f"version 2 of {entity('ApiKey', world.made)} is missing, and 3 is there")


def with_the_key_given_back(world: World) -> list[Record]:
    """The log in which the revocation is there, version and all, but says of no time when it was."""
    place, codec = place_of(world, world.made, 3), Codec()
    revoked = codec.decode_catalog(world.log[place].value)
    assert isinstance(revoked, ApiKey)
    forged = world.log[place]._replace(value=codec.encode_catalog(dataclasses.replace(revoked, revoked_at_ms=None)))
    assert forged != world.log[place]
    return [*world.log[:place], forged, *world.log[place + 1 :]]


def test_s27_an_altered_record_is_named(world: World, copied: Callable[[list[Record]], str]) -> None:
    place, namespace = place_of(world, world.made, 3), copied(with_the_key_given_back(world))
    said = verified(world.home, namespace)
    assert_named(said, namespace, place + 1, f"at offset {place}", entity("ApiKey", world.made))


def test_s27_a_record_that_says_another_wrote_it_is_named(world: World, copied: Callable[[list[Record]], str]) -> None:
    place = place_of(world, world.new, 1)
    one = world.log[place]
    headers = tuple((name, b"somebody else" if name == BY else said) for name, said in one.headers)
    namespace = copied([*world.log[:place], one._replace(headers=headers), *world.log[place + 1 :]])
    assert verified(world.home, namespace).code == 1


def test_s27_two_records_that_changed_places_are_named(world: World, copied: Callable[[list[Record]], str]) -> None:
    place = place_of(world, world.made, 3)
    namespace = copied([*world.log[: place - 1], world.log[place], world.log[place - 1], *world.log[place + 1 :]])
    said = verified(world.home, namespace)
    assert said.code == 1
    assert {one["topic"] for one in said.findings} == {Topics(namespace).catalog}
    assert place - 1 in [one["offset"] for one in said.findings]


def test_s27_a_forged_record_in_between_is_named(world: World, copied: Callable[[list[Record]], str]) -> None:
    place = place_of(world, world.made, 3)
    forged = world.log[0]._replace(headers=())
    namespace = copied([*world.log[:place], forged, *world.log[place:]])
    said = verified(world.home, namespace)
    assert said.of()["unlinked"] == 1
    assert said.code == 1
    assert f"offset {place}" in json.dumps(said.findings)


def kept_in(directory: Path, *said: Said) -> str:
    path = directory / "heads.jsonl"
    path.write_text("".join(json.dumps(one.report) + "\n" for one in said))
    return str(path)


def test_s27_a_cut_end_and_a_log_written_anew_break_a_kept_head(
    world: World, copied: Callable[[list[Record]], str], tmp_path: Path
) -> None:
    """What links alone cannot show, also when each is made anew by one who knows how."""
    heads, count = kept_in(tmp_path, verified(world.home, copied(world.log))), len(world.log)
    cut = copied(world.log[:-1])
    assert verified(world.home, cut).code == 0
    said = verified(world.home, cut, "--kept", heads)
    assert_named(said, cut, count - 1, f"ends after {count - 1} records, and a head was kept of {count}")
    anew = copied(linked_anew(with_the_key_given_back(world)))
    assert verified(world.home, anew).code == 0
    assert_named(verified(world.home, anew, "--kept", heads), anew, 0, f"the first {count} records are not those")


def linked_anew(log: list[Record]) -> list[Record]:
    head, made = NOTHING, []
    for one in log:
        headers = tuple((name, str(head).encode() if name == FOLLOWS else said) for name, said in one.headers)
        made.append(one._replace(headers=headers))
        head = extended(head, one.key, one.value, headers)
    return made


def test_s27_a_head_of_yesterday_holds_today_and_says_how_far_a_changed_log_is_as_it_was(
    world: World, copied: Callable[[list[Record]], str], tmp_path: Path
) -> None:
    some = copied(world.log[:5])
    earlier = verified(world.home, some)
    assert verified(world.home, "", "--kept", kept_in(tmp_path, earlier)).code == 0
    later = verified(world.home, copied(world.log[:-1]))
    altered = copied([*world.log[:6], world.log[6]._replace(key=b"another"), *world.log[7:]])
    said = verified(world.home, altered, "--kept", kept_in(tmp_path, earlier, later))
    assert_named(said, altered, 5, f"the first {len(world.log) - 1} records are not those", "the first 5 are")


def test_s27_records_that_are_gone_from_kafka_leave_a_gap(
    world: World, stack: Stack, copied: Callable[[list[Record]], str]
) -> None:
    config = {"bootstrap.servers": stack.kafka}
    namespace = copied(world.log)
    topic = Topics(namespace).catalog
    client = AdminClient(config)
    for future in client.delete_records([TopicPartition(topic, 0, 3)]).values():
        future.result(30)
    assert_named(verified(world.home, namespace), namespace, 0, "there is no record at offsets 0 to 2")
    namespace = copied(world.log[:4])
    topic = Topics(namespace).catalog
    producer = Producer({**config, "transactional.id": namespace})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    assert_named(verified(world.home, namespace), namespace, 4, "there is no record at offsets 4 to 5")


def test_s27_a_step_of_a_generation_that_was_removed_is_missed(world: World, stack: Stack, tmp_path: Path) -> None:
    topics = world.home.topics
    log = list(read(wiring.quiet_kafka(world.home.settings), topics.generations, "beginning"))
    namespace = f"t{secrets.token_hex(6)}"
    config = {"bootstrap.servers": stack.kafka}
    admin.create_topics(config, Topics(namespace), [CATALOG, GENERATIONS, ADJUSTMENTS], 1, 1)
    publisher = Publisher(config)
    for one in (log[0], log[2]):
        headers = [(name, said if isinstance(said, bytes) else b"") for name, said in one.headers]
        publisher.publish(Topics(namespace).generations, one.key, one.value, partition=0, headers=headers)
    publisher.flush(30)
    said = verified(world.home, namespace)
    assert said.code == 1
    (found,) = said.findings
    assert (found["topic"], found["offset"]) == (Topics(namespace).generations, 1)
    assert found["entity"] == "Generation 2"


def test_a_file_of_heads_that_proves_nothing_is_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "heads"
    for text in ("", "{}\n", "head 1:2\n", '{"logs": [{"log": "x", "head": "1:2"}]}', '{"logs": [{"log": "x/0"}]}'):
        path.write_text(text)
        code, output = meterline(world.home, "changes", "--kept", str(path))
        assert code == 2, output
        assert str(path) in output
    assert meterline(world.home, "changes", "--kept", str(tmp_path / "none"))[0] == 2
