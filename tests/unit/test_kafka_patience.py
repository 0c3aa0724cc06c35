"""How long one waits for a broker: one that has died or gone silent must leave time for its successor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException

import pipeline
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.acknowledged import CONFIG
from pipeline.kafka.asking import ATTEMPT_S, insistently, known_offset, of_leaders, translated
from pipeline.kafka.producer import DEFAULTS

RECOVERED_WITHIN_MS = 30_000


@pytest.mark.parametrize("config", [CONFIG, DEFAULTS])
def test_a_second_attempt_fits_in_the_time_that_a_record_has(config: dict[str, Any]) -> None:
    silent_ms = config["socket.timeout.ms"] + config["socket.connection.setup.timeout.ms"]
    assert silent_ms <= config["message.timeout.ms"]
    assert 2 * config["socket.timeout.ms"] <= config["message.timeout.ms"]
    assert silent_ms + config["reconnect.backoff.max.ms"] <= RECOVERED_WITHIN_MS


def failing(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


@pytest.mark.parametrize(
    "code", [KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._DESTROY_BROKER, KafkaError.FENCED_LEADER_EPOCH]
)
def test_a_leader_that_died_is_not_asked_until_the_time_is_up(code: int) -> None:
    """Its partition has another one by then, which only somebody who asks anew gets to know."""
    asked: list[float] = []
    looked: list[int] = []

    def ask(attempt_s: float) -> str:
        asked.append(attempt_s)
        if not looked:
            raise failing(code)
        return "the end"

    assert of_leaders(ask, lambda: looked.append(1), 60.0) == "the end"
    assert (asked, looked) == ([ATTEMPT_S, ATTEMPT_S], [1])


def test_what_no_leader_will_answer_is_not_asked_again() -> None:
    asked: list[float] = []

    def ask(attempt_s: float) -> str:
        asked.append(attempt_s)
        raise failing(KafkaError.UNKNOWN_TOPIC_OR_PART)

    with pytest.raises(KafkaException):
        of_leaders(ask, lambda: None, 60.0)
    assert len(asked) == 1


def test_when_the_time_is_up_the_last_answer_is_what_stands() -> None:
    def ask(attempt_s: float) -> str:
        raise failing(KafkaError._TIMED_OUT)

    with pytest.raises(KafkaException):
        of_leaders(ask, lambda: None, 0.0)


def test_a_partition_between_two_leaders_has_no_end_and_is_asked_again() -> None:
    """librdkafka says -1001 and no error; a worker took that for a journal that had lost its newest records."""
    answers = iter([SimpleNamespace(offset=OFFSET_INVALID), SimpleNamespace(offset=7)])
    assert of_leaders(lambda _: known_offset(next(answers)), lambda: None, 60.0) == 7
    with pytest.raises(Unavailable):
        known_offset(SimpleNamespace(offset=OFFSET_INVALID))
    assert known_offset(SimpleNamespace(offset=0)) == 0


@pytest.mark.parametrize(
    "code", [KafkaError.FENCED_LEADER_EPOCH, KafkaError.NOT_CONTROLLER, KafkaError._DESTROY_BROKER]
)
def test_what_passes_by_itself_stops_nobody(code: int) -> None:
    """A worker ends with a Refusal and asks on after an Unavailable."""
    assert isinstance(translated(failing(code)), Unavailable)


def test_what_does_not_pass_by_itself_is_refused() -> None:
    assert isinstance(translated(failing(KafkaError.TOPIC_AUTHORIZATION_FAILED)), Refusal)


def test_who_starts_while_a_broker_dies_asks_on_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """Its next start would only ask the same, a supervisor's pause later."""
    answers = iter([Unavailable("away"), Unavailable("still away"), "the end"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    with caplog.at_level("INFO", "meterline.kafka"):
        assert insistently(ask) == "the end"
    assert [record.message for record in caplog.records] == ["no answer from Kafka, asking on: away"]


def test_one_place_alone_asks_where_partitions_end() -> None:
    """Elsewhere nobody would look again who leads (kafka/bounds.py)."""
    sources = Path(pipeline.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "list_offsets(" in path.read_text()] == ["bounds.py"]
