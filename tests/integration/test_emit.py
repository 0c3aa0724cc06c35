"""``emit``, ``adjust``, ``tail`` and ``topics`` on real Kafka: what is in the log afterwards is what counts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.codec.records import Codec
from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import VALUE_UNIT
from pipeline.domain.partitioning import partition_of
from pipeline.kafka.reading import read
from pipeline.kafka.topics import TABLE, Topics

Meterline = Callable[..., subprocess.CompletedProcess[str]]
PARTITIONS = 3


@pytest.fixture
def environ(stack: Any, namespace: str, tmp_path: Path) -> dict[str, str]:
    """An environment that leads to the stack and nowhere else."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
    return clean | {
        "METERLINE_HOME": str(tmp_path / "no-laptop-stack"),
        "METERLINE_KAFKA": stack.kafka,
        "METERLINE_CLICKHOUSE": stack.clickhouse,
        "METERLINE_NAMESPACE": namespace,
        "METERLINE_PARTITIONS": str(PARTITIONS),
    }


@pytest.fixture
def meterline(environ: dict[str, str], tmp_path: Path) -> Meterline:
    """Runs a command as a process of its own, in an empty directory."""

    def run(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environ | more,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def topics(meterline: Meterline, namespace: str) -> Topics:
    created = meterline("topics", "create")
    assert created.returncode == 0, created.stderr
    return Topics(namespace)


def journal(stack: Any, topics: Topics) -> list[MeterEvent]:
    """All events in the journal, each held to stand in the partition of its identifier."""
    events = []
    for record in read({"bootstrap.servers": stack.kafka}, topics.journal, "beginning"):
        event = Codec().decode_journal(record.value)
        assert isinstance(event, MeterEvent)
        assert record.key == event.identifier.encode()
        assert record.partition == partition_of(event.identifier, PARTITIONS)
        events.append(event)
    return events


def line(identifier: str, **change: Any) -> str:
    now_ms = int(time.time() * 1000)
    fields = {"identifier": identifier, "event_name": "calls", "customer": "c", "value": "1", "timestamp": now_ms}
    return json.dumps({**fields, **change}) + "\n"


def test_topics_are_created_once_and_check_out(meterline: Meterline) -> None:
    assert meterline("topics", "check").returncode == 1
    assert meterline("topics", "create").stdout.count("created ") == len(TABLE)
    assert meterline("topics", "create").stdout == "all topics exist\n"
    assert meterline("topics", "check").stdout == "all topics are as they should be\n"
    differs = meterline("topics", "check", METERLINE_PARTITIONS="4")
    assert (differs.returncode, "partitions is 3, expected 4" in differs.stdout) == (1, True)
    assert f"meter-events: {PARTITIONS} partitions, kept for ever" in meterline("topics", "describe").stdout


def test_good_lines_are_published_exactly(stack: Any, topics: Topics, meterline: Meterline, tmp_path: Path) -> None:
    usage = tmp_path / "usage.jsonl"
    exact = "12345678901234567890123456.123456789012"
    usage.write_text(
        line("a", value=exact, dimensions={"région": "eu"})
        + line("b").replace('"1"', "-0.1")
        + line("c", livemode=False)
    )
    result = meterline("emit", str(usage))
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 events published, no bad lines" in result.stdout
    events = {event.identifier: event for event in journal(stack, topics)}
    assert events["a"].value == int(exact.replace(".", ""))
    assert events["a"].dimensions == (("région", "eu"),)
    assert events["b"].value == -VALUE_UNIT // 10
    assert [events[name].livemode for name in "abc"] == [True, True, False]


def test_bad_lines_are_named_written_down_and_passed_over(
    stack: Any, topics: Topics, meterline: Meterline, tmp_path: Path
) -> None:
    bad = [
        "no json",
        line("x", value="1e3"),
        line("x", value=True),
        line(""),
        line("i" * 101),
        line("x", customer=""),
        line("x", customer="a\u200bb"),
        line("x", timestamp=0),
        line("x", timestamp=int(time.time() * 1000) + 3_600_000),
        line("x", dimensions={str(number): "x" for number in range(17)}),
        line("x", vlaue=1),
    ]
    reasons = [
        "not_json",
        "bad_value",
        "not_text",
        "no_identifier",
        "invalid_identifier",
        "no_customer",
        "invalid_customer",
        "timestamp_too_far_in_past",
        "timestamp_in_future",
        "meter_event_dimension_count_too_high",
        "unknown_field",
    ]
    usage, rejects = tmp_path / "usage.jsonl", tmp_path / "bad.jsonl"
    usage.write_text("".join(line(f"good-{number}") + text.rstrip() + "\n" for number, text in enumerate(bad)))
    result = meterline("emit", str(usage), "--rejects", str(rejects))
    assert result.returncode == 1
    assert f"{len(bad)} events published, {len(bad)} bad lines" in result.stdout
    named = re.findall(r"^line (\d+): (\w+): \S", result.stderr, re.MULTILINE)
    assert named == [(str(2 * number + 2), reason) for number, reason in enumerate(reasons)]
    written = [json.loads(text) for text in rejects.read_text().splitlines()]
    assert [(entry["line"], entry["reason"]) for entry in written] == [(int(at), reason) for at, reason in named]
    assert [entry["text"] for entry in written] == [text.rstrip() for text in bad]
    assert sorted(event.identifier for event in journal(stack, topics)) == sorted(f"good-{n}" for n in range(len(bad)))


def test_the_same_file_again_is_the_same_events_again(
    stack: Any, topics: Topics, meterline: Meterline, tmp_path: Path
) -> None:
    """The fold ignores the second copy because identity and content are the same: identifiers made up included."""
    usage = tmp_path / "usage.csv"
    usage.write_text("at,who,much\n" + "2026-01-01T00:00:00Z,a,1\n" * 3 + "2026-01-01T00:00:00Z,b,2.50\n")
    options = ["--map", "timestamp=at", "--map", "customer=who", "--map", "value=much", "--set", "event_name=calls"]
    for _ in range(2):
        result = meterline("emit", str(usage), "--derive-identifiers", *options, METERLINE_MAX_EVENT_AGE="7300d")
        assert result.returncode == 0, result.stderr
    copies = Counter(journal(stack, topics))
    assert sorted(copies.values()) == [2, 2, 2, 2]
    assert sum(event.value for event in copies) == 3 * VALUE_UNIT + 5 * VALUE_UNIT // 2


def test_lines_come_from_standard_input_too(stack: Any, topics: Topics, meterline: Meterline) -> None:
    result = meterline("emit", stdin=line("a") + line("b"))
    assert result.returncode == 0, result.stderr
    assert len(journal(stack, topics)) == 2


def test_an_interrupted_run_says_so_and_the_next_one_completes_it(
    stack: Any, topics: Topics, meterline: Meterline, environ: dict[str, str], tmp_path: Path
) -> None:
    sending = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "emit"],
        cwd=tmp_path, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    sending.stdin.write("".join(line(f"e-{number}") for number in range(500)))
    sending.stdin.flush()
    deadline = time.monotonic() + 30
    while not journal(stack, topics) and time.monotonic() < deadline:
        time.sleep(0.05)
    sending.send_signal(signal.SIGINT)
    output, said = sending.communicate(timeout=30)
    assert sending.returncode == 130
    assert "the same command sends the rest" in said
    assert "Traceback" not in said
    published = int(re.match(r"([\d,]+) events published", output)[1].replace(",", ""))
    assert len(journal(stack, topics)) == published > 0
    assert meterline("emit", stdin="".join(line(f"e-{number}") for number in range(500))).returncode == 0
    assert len({event.identifier for event in journal(stack, topics)}) == 500


def test_missing_topics_are_said_before_anything_is_read(meterline: Meterline) -> None:
    result = meterline("emit", stdin=line("a"))
    assert result.returncode == 1
    assert "meterline topics create" in result.stderr


def test_adjustments_are_published_once_for_what_they_say(stack: Any, topics: Topics, meterline: Meterline) -> None:
    span = ["--start", "2026-01-01T00:00:00Z", "--end", "2026-02-01T00:00:00Z"]
    calls = [
        ["adjust", "calls", "--identifier", "a"],
        ["adjust", "calls", "--identifier", "a"],
        ["adjust", "calls", "--identifier", "a", "--test"],
        ["adjust", "calls", *span],
        ["adjust", "calls", *span, "--customer", "c"],
        ["adjust", "calls", *span, "--customer", "c", "--id", "my-own"],
    ]
    results = [meterline(*call) for call in calls]
    assert [result.returncode for result in results] == [0] * 6
    said = [result.stdout.split()[0] for result in results]
    assert said[0] == said[1]
    assert len(set(said)) == 5
    assert said[-1] == "my-own"
    records = list(read({"bootstrap.servers": stack.kafka}, topics.adjustments, "beginning"))
    adjustments = {record.key.decode(): Codec().decode_adjustment(record.value) for record in records}
    assert set(adjustments) == set(said)
    assert adjustments["my-own"].range == ("c", 1767225600000, 1769904000000)
    assert (adjustments[said[2]].livemode, adjustments[said[2]].identifier) == (False, "a")


def test_tail_decodes_follows_and_stops(topics: Topics, meterline: Meterline) -> None:
    assert meterline("emit", stdin="".join(line(f"e-{number}") for number in range(20))).returncode == 0
    whole = meterline("tail", "journal", "--from", "beginning", "--no-follow", "--json")
    records = [json.loads(text) for text in whole.stdout.splitlines()]
    assert {record["identifier"] for record in records} == {f"e-{number}" for number in range(20)}
    assert records[0]["value"] == "1"
    followed = meterline("tail", "journal", "--from", "beginning", "-n", "5")
    assert (followed.returncode, len(followed.stdout.splitlines())) == (0, 5)
    assert "MeterEvent identifier=e-" in followed.stdout
    partition = str(records[0]["partition"])
    end = len([record for record in records if str(record["partition"]) == partition])
    last = meterline("tail", "journal", "--partition", partition, "--from", str(end - 1), "--no-follow", "--json")
    assert json.loads(last.stdout)["offset"] == end - 1
    assert meterline("tail", "journal", "--partition", "99").returncode == 2
    assert meterline("tail", "dispositions", "--from", "beginning", "--no-follow").stdout == ""


def test_tail_shows_what_nobody_can_read(topics: Topics, stack: Any, meterline: Meterline) -> None:
    from pipeline.kafka.producer import Publisher

    publisher = Publisher({"bootstrap.servers": stack.kafka})
    publisher.publish(topics.journal, b"k\xff", b"\x00garbage")
    publisher.publish(topics.journal, None, None)
    publisher.flush(30)
    shown = meterline("tail", "journal", "--from", "beginning", "--no-follow", "--json")
    assert shown.returncode == 0
    records = [json.loads(text) for text in shown.stdout.splitlines()]
    assert {record["undecodable"] for record in records} == {"no_schema_registry", "no_value"}
