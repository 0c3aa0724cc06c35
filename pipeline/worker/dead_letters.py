"""Records that nobody can use, as they came, with where they came from and why: for people."""

from __future__ import annotations

from pipeline.kafka.outlet import Outlet
from pipeline.kafka.topics import DEAD_LETTER_BYTES_MAX, Topics

LETTER_BYTES_MAX = DEAD_LETTER_BYTES_MAX - 64 * 1024
"""Of key and value; the rest is for the headers. More than a journal takes of one record that is not compressed."""
KEY_BYTES_MAX = 1_000


def bury(
    outlet: Outlet,
    topics: Topics,
    place: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    reason: str,
) -> None:
    """Publish the dead letter of the record at ``place`` (topic, partition, offset).

    One that was far larger before its producer compressed it is cut, with its size in the header ``bytes``: whole it
    stands in its topic, and no single record may hold up all that come after it.
    """
    topic, partition, offset = place
    headers = [
        ("topic", topic.encode()),
        ("partition", str(partition).encode()),
        ("offset", str(offset).encode()),
        ("reason", reason.encode()),
    ]
    if len(key or b"") + len(value or b"") > LETTER_BYTES_MAX:
        headers.append(("bytes", str(len(value or b"")).encode()))
        key = None if key is None else key[:KEY_BYTES_MAX]
        value = None if value is None else value[: LETTER_BYTES_MAX - KEY_BYTES_MAX]
    outlet.publish(topics.dead_letters, key, value, headers=headers)
