"""What an explanation may call complete: nothing that may be on its way may be left out of it."""

from __future__ import annotations

import types
from typing import Any

import pytest

from pipeline.clickhouse import explanation
from pipeline.clickhouse.explained import identifier_explained
from pipeline.clickhouse.explanation import Explanation, explain
from pipeline.domain import outcomes

APPENDED_MS = 1_800_000_000_000
SENT = (3, 1000, APPENDED_MS, "api", "cus", 5 * 10**12, 0, APPENDED_MS, [], [])
WITHOUT_IT = (2000, 1, 10**12)
"""Its shard after a range cancellation, the record at 2000, has taken it out."""
TAKEN_OUT = (3, 1000, 2000, "event", "cancelled", None, "api", "cus", None, None, "adj", None, None)


class Meanwhile:
    """A ClickHouse into which a cancellation's shard and disposition come as soon as anything but events is read."""

    def __init__(self) -> None:
        self.cancelled = False

    def query(self, sql: str, parameters: dict[str, Any]) -> Any:
        rows: list[Any] = []
        if sql is explanation.EVENTS_SQL:
            rows = [SENT]
        elif sql is explanation.SHARD_SQL:
            rows = [WITHOUT_IT if self.cancelled else (1000, 2, 6 * 10**12)]
        elif sql is explanation.DISPOSITIONS_SQL:
            rows, self.cancelled = [TAKEN_OUT] * self.cancelled, True
        return types.SimpleNamespace(result_rows=rows)


def test_what_is_taken_out_of_a_shard_before_it_is_read_is_not_called_counted() -> None:
    (one,) = explain(Meanwhile(), "evt_1", livemode=True).decisions  # type: ignore[arg-type]
    assert (one.disposition, one.adjustment_id, one.counted_into) == ("cancelled", "adj", None)


@pytest.mark.parametrize(("behind", "complete"), [(0, True), (1, False), (None, False)])
def test_complete_is_only_what_nothing_can_be_missing_of(behind: int | None, complete: bool) -> None:
    decided = explanation.Decision(outcomes.EVENT, 3, 1000, APPENDED_MS, "api", outcomes.COUNTED)
    said = identifier_explained(Explanation("evt_1", True, (decided,)), behind)
    assert (said["complete"], said["records_behind"]) == (complete, behind)
