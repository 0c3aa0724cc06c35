"""What became of adjustments: as they were sent, and what the fold decided in each partition that they came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.domain import outcomes
from pipeline.domain.events import Adjustment, CancellationRange

_SENT = """
SELECT id, toUnixTimestamp64Milli(appended_at) AS appended_at_ms, event_name, identifier, isNull(identifier),
    range_customer, toUnixTimestamp64Milli(range_start), toUnixTimestamp64Milli(range_end)
FROM adjustments
"""

ONE_SQL = f"""{_SENT}
WHERE livemode = {{livemode:Bool}} AND id = {{id:String}}
ORDER BY partition, offset
LIMIT 1
"""

# Of an adjustment that was sent again, the first copy: before anything else, so that it is on one page.
PAGE_SQL = f"""{_SENT.replace("FROM adjustments", "")}
FROM (SELECT * FROM adjustments WHERE livemode = {{livemode:Bool}} ORDER BY id, partition, offset LIMIT 1 BY id)
WHERE ({{event_name:String}} = '' OR event_name = {{event_name:String}})
    AND id NOT IN {{without:Array(String)}}
    AND (appended_at_ms, id) < ({{before_ms:Int64}}, {{before_id:String}})
ORDER BY appended_at_ms DESC, id DESC
LIMIT {{limit:UInt64}}
"""

# The same cancellation can stand in the journal twice; the first one decides, and the second is its duplicate.
DECIDED_SQL = f"""
SELECT adjustment_id, partition, disposition, reason, events_cancelled
FROM dispositions
WHERE adjustment_id IN {{ids:Array(String)}} AND livemode = {{livemode:Bool}}
    AND record IN ('{outcomes.CANCELLATION}', '{outcomes.RANGE_CANCELLATION}')
    AND disposition NOT IN ('{outcomes.DUPLICATE}', '{outcomes.REROUTED}')
ORDER BY adjustment_id, partition, offset
LIMIT 1 BY adjustment_id, partition
"""

LAST = (2**62, "")
"""Before which everything lies: the first page."""


class Sent(NamedTuple):
    """An adjustment as it stands in its topic, the first copy of it."""

    adjustment: Adjustment
    appended_at_ms: int


class Decided(NamedTuple):
    """What the fold of one journal partition decided about an adjustment."""

    partition: int
    disposition: str
    """A member of ``outcomes.CANCELLATION_DISPOSITIONS``."""
    reason: str | None
    events_cancelled: int


def sent_adjustment(client: Client, id_: str, *, livemode: bool) -> Sent | None:
    """The adjustment, or None when it is not there (yet)."""
    rows = client.query(ONE_SQL, parameters={"id": id_, "livemode": livemode}).result_rows
    return _sent(rows[0], livemode=livemode) if rows else None


def sent_adjustments(
    client: Client,
    *,
    livemode: bool,
    limit: int,
    event_name: str = "",
    before: tuple[int, str] = LAST,
    without: Sequence[str] = (),
) -> list[Sent]:
    """The newest ones before (appended_at_ms, id), newest first. ``event_name``: only of this one. ``without``: ids."""
    asked = {"livemode": livemode, "event_name": event_name, "limit": limit}
    asked |= {"before_ms": before[0], "before_id": before[1], "without": list(without)}
    return [_sent(row, livemode=livemode) for row in client.query(PAGE_SQL, parameters=asked).result_rows]


def decisions(client: Client, ids: Sequence[str], *, livemode: bool) -> dict[str, list[Decided]]:
    """By adjustment id, what was decided, one entry for each partition that has decided."""
    found: dict[str, list[Decided]] = {}
    rows = client.query(DECIDED_SQL, parameters={"ids": list(ids), "livemode": livemode}).result_rows
    for id_, partition, disposition, reason, events_cancelled in rows:
        found.setdefault(id_, []).append(Decided(partition, disposition, reason, events_cancelled or 0))
    return found


def _sent(row: Sequence[Any], *, livemode: bool) -> Sent:
    id_, appended_at_ms, event_name, identifier, is_range, customer, start_ms, end_ms = row
    span = CancellationRange(customer, start_ms, end_ms) if is_range else None
    return Sent(Adjustment(id_, event_name, livemode, identifier, span), appended_at_ms)
