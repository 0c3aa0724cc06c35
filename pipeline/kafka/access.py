"""Who may do what in Kafka: a user of its own for each part, and the rights that the table of topics gives it.

Needs brokers with an authorizer, and SCRAM where users are made here too. Nobody has a right that is not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from pipeline.kafka.asking import TIMEOUT_S, admin_client, answer_of, translated
from pipeline.kafka.topics import GROUPS, TABLE, Topic, Topics

USERS = ("gateway", "worker", "sink", "cli")
"""One per part; also the names of the users. The command line may write usage and read everything."""

_ROLES: dict[str, frozenset[str]] = {
    "gateway": frozenset({"gateway", "every process"}),
    "worker": frozenset({"worker", "its worker", "every process"}),
    "sink": frozenset({"sink", "every process"}),
    "cli": frozenset({"any service", "command line"}),
}
"""By user, what it is called in the columns ``written_by`` and ``read_by``."""
ASKING_GROUPS = ("meterline-reading", "meterline-following", "meterline-audit")
"""The client asks for a group even of who only reads or asks; nothing is ever committed to these."""
_SCRAM_ITERATIONS = 4096


class Right(NamedTuple):
    """One thing that a user may do."""

    user: str
    operation: AclOperation
    kind: ResourceType
    name: str
    prefixed: bool
    """Whether it holds for every name that begins so: generations have names of their own."""


def rights(topics: Topics) -> Iterator[Right]:
    """Every right of every user on the topics and groups of a namespace, by the table."""
    for user in USERS:
        for topic in TABLE:
            yield from _on_topic(user, topic, topics)
        for operation, group, prefixed in _groups(user, topics):
            yield Right(user, operation, ResourceType.GROUP, group, prefixed)


def _groups(user: str, topics: Topics) -> Iterator[tuple[AclOperation, str, bool]]:
    """(operation, group, whether every group that begins so) of one user."""
    for group in ASKING_GROUPS:
        yield AclOperation.READ, group, False
    for role in GROUPS:
        # Who does not belong to a group may still see how far it has come.
        yield AclOperation.READ if user == role else AclOperation.DESCRIBE, topics.group(role), True
    if user == "gateway":
        yield AclOperation.READ, topics.catalog_events_group, False
        yield AclOperation.READ, topics.webhooks_group(""), True


def _on_topic(user: str, topic: Topic, topics: Topics) -> Iterator[Right]:
    writes = bool(_ROLES[user] & set(topic.written_by))
    reads = user == "cli" or bool(_ROLES[user] & set(topic.read_by))
    operations = [AclOperation.WRITE] * writes + [AclOperation.READ] * reads
    # That a topic is there, how long it is and how it is set is no secret among the parts; a worker makes sure of it.
    for operation in (*operations, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
        yield Right(user, operation, ResourceType.TOPIC, topics.name(topic), prefixed=topic.belongs_to != "deployment")


def grant(config: Mapping[str, Any], topics: Topics) -> int:
    """Give every user its rights; how many. Rights that are there already stay. Raises Unavailable, Refusal."""
    wanted = [_binding(right) for right in rights(topics)]
    for future in admin_client(config).create_acls(wanted, request_timeout=TIMEOUT_S).values():
        answer_of(future)
    return len(wanted)


def _binding(right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        right.kind, right.name, pattern, f"User:{right.user}", "*", right.operation, AclPermissionType.ALLOW
    )


def make_users(config: Mapping[str, Any], passwords: Mapping[str, str]) -> None:
    """Make these users, or give those that exist these passwords (SCRAM-SHA-512). Raises Unavailable, Refusal."""
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
    wanted: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, credential, text.encode()) for user, text in passwords.items()
    ]
    try:
        futures = admin_client(config).alter_user_scram_credentials(wanted, request_timeout=TIMEOUT_S)
    except KafkaException as error:
        raise translated(error) from error
    for future in futures.values():
        answer_of(future)
