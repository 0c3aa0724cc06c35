"""Rights follow from the table of topics: what a part does not do, its user may not do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from pipeline.kafka.access import ASKING_GROUPS, USERS, rights
from pipeline.kafka.topics import TABLE, Topics

PIPELINE = Path(__file__).parents[2] / "pipeline"
TOPICS = Topics("m")
SEEING = {AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS}


def may(user: str, operation: AclOperation) -> set[str]:
    return {
        right.name
        for right in rights(TOPICS)
        if (right.user, right.operation, right.kind) == (user, operation, ResourceType.TOPIC)
    }


def test_only_parts_that_write_a_topic_may_write_it() -> None:
    for topic in TABLE:
        writers = {user for user in USERS if TOPICS.name(topic) in may(user, AclOperation.WRITE)}
        allowed = set(topic.written_by) & set(USERS)
        if {"any service", "command line"} & set(topic.written_by):
            allowed.add("cli")
        assert writers == allowed, topic.suffix


@pytest.mark.parametrize("topic", ["summaries", "dispositions"])
def test_s17_a_gateway_can_neither_forge_results_nor_read_them(topic: str) -> None:
    """What it reads of usage stands in the journal, to tell how long the oldest record has been waiting."""
    assert getattr(TOPICS, topic) not in may("gateway", AclOperation.WRITE) | may("gateway", AclOperation.READ)
    assert TOPICS.journal in may("gateway", AclOperation.READ)
    assert TOPICS.adjustments not in may("gateway", AclOperation.READ)


def test_a_worker_may_look_at_the_summaries_that_it_has_written() -> None:
    """Else it could not see that somebody else writes there, too (worker/summary_log.py)."""
    assert TOPICS.summaries in may("worker", AclOperation.READ)
    assert TOPICS.dispositions not in may("worker", AclOperation.READ)


def test_nobody_may_change_topics_or_rights() -> None:
    given = {right.operation for right in rights(TOPICS)}
    assert given == {AclOperation.READ, AclOperation.WRITE} | SEEING


def test_a_name_stands_for_more_only_where_generations_need_it() -> None:
    for right in rights(TOPICS):
        if right.kind == ResourceType.TOPIC and right.prefixed:
            others = {TOPICS.name(topic) for topic in TABLE} - {right.name}
            assert not [other for other in others if other.startswith(right.name)]


def test_every_group_that_only_asks_is_listed() -> None:
    text = "".join(path.read_text() for path in PIPELINE.rglob("*.py"))
    assert set(re.findall(r'"group\.id": "([^"]+)"', text)) == set(ASKING_GROUPS)
