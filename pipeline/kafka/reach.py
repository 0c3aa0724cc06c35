"""Whether a partition still holds the place at which a consumer group has to read on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import Refusal
from pipeline.kafka.bounds import EARLIEST, LATEST, Place, offsets


def check_reach(kafka: Mapping[str, Any], group: str, place: Place, offset: int) -> None:
    """Raise Refusal when ``place`` begins above ``offset`` or ends below it; Unavailable when nobody says."""
    first, end = (offsets(kafka, [place], spec)[place] for spec in (EARLIEST, LATEST))
    if first <= offset <= end:
        return
    topic, number = place
    lost = (
        f"begins at offset {first} now, but the group {group} has to read on at {offset}: what lies in between was"
        " deleted before it was read"
        if offset < first
        else f"ends at offset {end}, but the group {group} has read up to {offset}: the topic lost its newest records,"
        " and what comes in their place would be passed over"
    )
    raise Refusal(
        f"partition {number} of {topic} {lost}. Restore the topic; if it is gone, stop whoever reads with this group,"
        f" delete the group (kafka-consumer-groups --delete --group {group}) and run `meterline topics create`, which"
        " has it begin where the topics do: what is read again counts once. `meterline rebuild` brings back what the"
        " journal still tells"
    )
