"""What an audit says: differences with their place and their key, and figures of each partition. Plain values."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

from pipeline.codec import digests
from pipeline.codec.digests import Digest
from pipeline.domain.events import TallyKey
from pipeline.domain.times import timestamp_text
from pipeline.domain.values import value_text

Kind = Literal["missing", "unexpected", "differs", "broken"]
"""missing: it should be there; unexpected: it should not; differs: other numbers; broken: it cannot be read or is not
what it says it is."""

DIFFERENCES_TOLD_MAX = 100
"""Of one place and partition; the others are counted."""


class Difference(NamedTuple):
    """One thing that is not as the journal says."""

    where: str
    """The table, topic, store or snapshot."""
    partition: int
    kind: Kind
    what: str
    """The shard, disposition or file, by its key."""
    numbers: tuple[tuple[str, str, str], ...] = ()
    """(name, expected, found), of those that differ."""


@dataclasses.dataclass(slots=True)
class Compared:
    """One derived side of one partition."""

    where: str
    as_of: int
    """The journal offset up to which the audit knows what must be there; what was published later was compared too."""
    items: int = 0
    digest: str = ""
    differences: list[Difference] = dataclasses.field(default_factory=list)
    untold: int = 0
    """Differences beyond DIFFERENCES_TOLD_MAX."""

    def differ(self, difference: Difference) -> None:
        if len(self.differences) < DIFFERENCES_TOLD_MAX:
            self.differences.append(difference)
        else:
            self.untold += 1


@dataclasses.dataclass(slots=True)
class PartitionFindings:
    """What the audit of one journal partition came to."""

    partition: int
    records: int = 0
    offsets: int = 0
    holes: int = 0
    """Offsets without a record that a reader of committed records sees."""
    digest: Digest = dataclasses.field(default_factory=Digest)
    """Of all shards as of ``cursor``, recomputed."""
    cursor: int = 0
    accounts: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    compared: list[Compared] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def differences(self) -> list[Difference]:
        return [one for side in self.compared for one in side.differences]


def differing(expected: bytes, found: bytes) -> tuple[tuple[str, str, str], ...]:
    """(name, expected, found) of the numbers in which two packed rows differ."""
    pairs = zip(numbers_shown(expected), numbers_shown(found), strict=True)
    return tuple((name, one, other) for (name, one), (_, other) in pairs if one != other)


_VALUES = frozenset({"sum", "min", "max", "last_value", "latest_value"})


def numbers_shown(row: bytes) -> list[tuple[str, str]]:
    """(name, text) of each number of a packed row."""
    return [
        (name, value_text(number) if name in _VALUES else str(number))
        for name, number in digests.numbers_of(row).items()
    ]


def shown_key(key: bytes) -> str:
    """A tally's key for people."""
    try:
        one: TallyKey = digests.key_of(key)
    except Exception:
        return f"a key that is none: {key!r}"
    mode = "live" if one.livemode else "test"
    dimensions = "".join(f", {name}={value}" for name, value in one.dimensions)
    return f"{mode} {one.event_name} of {one.customer}, minute {timestamp_text(one.window_start_ms)}{dimensions}"


def as_object(findings: PartitionFindings) -> dict[str, Any]:
    """For JSON: values are exact text."""
    return {
        "partition": findings.partition,
        "records": findings.records,
        "offsets": findings.offsets,
        "holes": findings.holes,
        "as_of": findings.cursor,
        "digest": str(findings.digest),
        "accounts": {
            name: {"records": records, "value": value_text(value)}
            for name, (records, value) in sorted(findings.accounts.items())
            if records or value
        },
        "compared": [
            {
                "where": side.where,
                "as_of": side.as_of,
                "items": side.items,
                "digest": side.digest,
                "equal": not side.differences,
                "differences": [
                    {
                        "kind": one.kind,
                        "what": one.what,
                        "numbers": [
                            {"name": name, "expected": expected, "found": found}
                            for name, expected, found in one.numbers
                        ],
                    }
                    for one in side.differences
                ],
                "more_differences": side.untold,
            }
            for side in findings.compared
        ],
        "notes": findings.notes,
    }
