"""What a feed asks of ClickHouse; in the simulator a model answers."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class Inserter(Protocol):
    """The way into the tables; see ``pipeline.clickhouse.inserting.Inserter``."""

    def insert(self, table: str, rows: pa.Table) -> None:
        """Return when the rows are there. After any MeterlineError they may be there all the same, or in part."""
