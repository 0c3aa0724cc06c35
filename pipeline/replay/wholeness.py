"""Whether the journal that stands is the one that the live generation was folded from, and all of it is there.

A generation that is built from less, or from something else, would say other numbers with the same good conscience.
What was folded is known from the group's offsets, and from the tables: they tell when a record was appended at which
offset, and offsets are deleted together with their topic.
"""

from __future__ import annotations

from pipeline.domain.generations import Generation
from pipeline.errors import Refusal
from pipeline.kafka.admin import TopicState
from pipeline.kafka.offsets import Noted
from pipeline.replay.coverage import Coverage
from pipeline.replay.ground import Ground


def check_whole(ground: Ground, live: Generation, *, accept: bool) -> None:
    """Raise Refusal with what mends it. With ``accept`` the newest records may be lost: what is left is what counts."""
    journal, standing = ground.topics(live).journal, ground.journal(live)
    if standing is None:
        raise Refusal(
            f"there is no topic {journal}: the journal is gone, and what it said stands in generation"
            f" {live.number} alone, which is not touched. Restore the topic, then `meterline rebuild`"
        )
    _check_kind(live, ground.partitions(live), standing)
    coverage = ground.coverage(live._replace(partitions=standing.partitions))
    _check_beginning(live, journal, coverage)
    places = [(journal, number) for number in range(standing.partitions)]
    told, noted = ground.newest_records(live), ground.noted(live, places)
    newest = {number: told[number] for number in told if number < standing.partitions}  # others say nothing of it
    ends = coverage.journal_ends()  # last: all the others go on meanwhile
    for number, (offset, appended_at_ms) in newest.items():
        if offset < ends.get(number, 0):
            _check_record(live, journal, (number, offset), ground.appended_at(live, number, offset) == appended_at_ms)
    folded = {number: one.offset for (_, number), one in noted.items()}
    for number, (offset, _) in newest.items():
        folded[number] = max(folded.get(number, 0), offset + 1)
    if not accept:
        _check_end(live, journal, ends, folded)
    # What comes at lost offsets now was not acted upon, whatever the group says of those that stood there before.
    beyond = {place: one for place, one in noted.items() if one.offset > ends[place[1]]}
    ground.put_back(live, {place: Noted(ends[place[1]], one.note) for place, one in beyond.items()})


def _check_kind(live: Generation, partitions: int, standing: TopicState) -> None:
    if partitions not in (0, standing.partitions):
        raise Refusal(
            f"{standing.name} has {standing.partitions} partitions, and generation {live.number} was folded from"
            f" {partitions}: identifiers moved to other partitions, and duplicates would count twice. That"
            " generation is not touched. Restore the topic; `meterline journal repartition --partitions N` is how to"
            " have another number"
        )
    if standing.config.get("message.timestamp.type") != "LogAppendTime":
        raise Refusal(
            f"{standing.name} does not stamp records with its own clock, so folding it again gives other windows than"
            f" generation {live.number} has; `meterline topics check` says how to set"
            " message.timestamp.type=LogAppendTime"
        )


def _check_record(live: Generation, journal: str, place: tuple[int, int], same: bool) -> None:
    """The record that stands at (partition, offset) must be the one that was folded."""
    if not same:
        number, offset = place
        raise Refusal(
            f"{journal} is not what generation {live.number} was folded from: at offset {offset} of partition {number}"
            " stands another record, or none. It was deleted and created again, or restored from something else, and"
            " what it holds now is not the usage that stands in that generation, which is not touched. Restore the"
            " topic; to begin anew, set another METERLINE_NAMESPACE and run `meterline topics create`"
        )


def _check_beginning(live: Generation, journal: str, coverage: Coverage) -> None:
    cut = {number: start for number, start in coverage.journal_starts().items() if start > 0}
    if cut:
        number, start = min(cut.items())
        raise Refusal(
            f"partition {number} of {journal} begins at offset {start}: what came before was deleted from the journal"
            f" and stands in generation {live.number} alone. One that is built from the rest would lack it. Restore the"
            " topic, then `meterline rebuild`"
        )


def _check_end(live: Generation, journal: str, ends: dict[int, int], folded: dict[int, int]) -> None:
    lost = {number: offset for number, offset in folded.items() if offset > ends.get(number, 0)}
    if lost:
        number, offset = min(lost.items())
        raise Refusal(
            f"partition {number} of {journal} ends at offset {ends.get(number, 0)}, and generation {live.number} has"
            f" folded up to {offset}: the journal lost its newest records, or was deleted and created again, and what"
            " they said stands in that generation alone, which is not touched. Restore the brokers' data; if it is"
            " gone, `meterline rebuild --accept-differences` goes on with what is left, and shows what that changes"
        )
