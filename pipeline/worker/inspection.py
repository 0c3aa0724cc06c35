"""Looking into a partition's store without touching it, while its worker runs or not, for an audit.

RocksDB is opened read-only: no lock is taken and nothing is written. What a running worker has in memory is not seen:
the store on disk is whole at an earlier cursor, because there is no write-ahead log and one column family.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict

from pipeline.errors import Unavailable
from pipeline.worker import layout

_TRIES = 3
"""A running worker may delete a file between two looks at the directory."""


class StoreInspection:
    """One store, as of its ``cursor``."""

    def __init__(self, path: Path, where: str | None = None) -> None:
        self.where = where or f"store {path}"
        self._rocks = _opened(path)
        meta: dict[str, Any] = json.loads(self._rocks.get(layout.META) or b"{}")
        self.is_signed = bool(meta)
        """Else nobody has begun to fold into it."""
        origin: dict[str, Any] = meta.get("origin", {})
        self.topic_id: str = origin.get("topic_id", "")
        self.fold_version: str = origin.get("fold", "")
        self.partitions: int = origin.get("partitions", 0)
        self.cursor: int = meta.get("cursor", 0)
        self.clock_ms: int = meta.get("clock_ms", 0)
        self.digest: str = meta.get("digest", "")
        self.accounts: dict[str, tuple[int, int]] = {
            name: (records, int(value)) for name, (records, value) in meta.get("accounts", {}).items()
        }

    def tallies(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, packed numbers) of every tally, as ``codec.digests`` has them."""
        for key, packed in self._scan(layout.TALLY):
            yield key[1:], packed[: layout.TALLY_BYTES]

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._rocks.iter()
        cursor.seek(prefix)
        while cursor.valid():
            key: bytes = cursor.key()
            if not key.startswith(prefix):
                return
            yield key, cursor.value()
            cursor.next()

    def close(self) -> None:
        self._rocks.close()


def _opened(path: Path) -> Rdict:
    for left in reversed(range(_TRIES)):
        try:
            return Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
        except Exception as error:
            if not left:
                raise Unavailable(f"the store {path} cannot be read: {error}") from error
    raise AssertionError


def store_paths(directories: tuple[Path, ...], partition: int) -> list[Path]:
    """The stores of a partition in workers' own directories, or one level below."""
    name = f"partition-{partition}"
    found = {path for home in directories for path in (*home.glob(name), *home.glob(f"*/{name}"))}
    return sorted(path for path in found if (path / "CURRENT").exists())


@contextlib.contextmanager
def inspected(directories: tuple[Path, ...], partition: int) -> Iterator[list[StoreInspection]]:
    """The states of one partition that can be reached, each as of its own cursor."""
    with contextlib.ExitStack() as opened:
        found = []
        for path in store_paths(directories, partition):
            one = StoreInspection(path)
            opened.callback(one.close)
            if one.is_signed:
                found.append(one)
        yield found
