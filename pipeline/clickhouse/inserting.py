"""Putting rows into tables so that they are there when the call returns."""

from __future__ import annotations

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.connection import PINNED_SETTINGS, ClickHouseRefused, Server, connect, translated


class Inserter:
    """Inserts Arrow tables, for one thread at a time. Connects when it has to, and again after any failure."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: Client | None = None

    def insert(self, table: str, rows: pa.Table) -> None:
        """Return when ClickHouse has these rows, as one insert.

        Raises Unavailable, Refusal or ClickHouseRefused; rows may be there then all the same, or in part, and the
        same insert again does no harm.
        """
        try:
            with translated(self._server):
                if self._client is None:
                    self._client = connect(self._server)
                answer = self._client.insert_arrow(table, rows, settings=PINNED_SETTINGS)
            if answer.written_rows < len(rows):
                raise ClickHouseRefused(f"ClickHouse took {answer.written_rows} of {len(rows)} rows into {table}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
