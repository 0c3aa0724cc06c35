"""Looking into a partition's store without touching it, while its worker runs or not, for an audit.

RocksDB is opened read-only: no lock is taken and nothing is written. What a running worker has in memory is not seen:
the store on disk is whole at an earlier cursor, because there is no write-ahead log and one column family.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rocksdict import AccessType, Options, Rdict

from pipeline.codec.digests import DIGEST_VERSION
from pipeline.domain.ledger import Awaited
from pipeline.domain.tally import Entry
from pipeline.worker import layout
from pipeline.worker.snapshots import Snapshots, translated

_TRIES = 3
"""A running worker may delete a file between two looks at the directory."""


class StoreInspection:
    """One store, as of its ``cursor``."""

    def __init__(self, path: Path, where: str) -> None:
        self.where = where
        self.fault = ""
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
        self.digest: str = meta.get("digest", "") if meta.get("digest_version", 1) == DIGEST_VERSION else ""
        self.accounts: dict[str, tuple[int, int]] = {
            name: (records, int(value)) for name, (records, value) in meta.get("accounts", {}).items()
        }

    def tallies(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, packed numbers) of every tally, as ``codec.digests`` has them."""
        for key, packed in self._scan(layout.TALLY):
            yield key[1:], packed[: layout.TALLY_BYTES]

    def entries(self) -> Iterator[tuple[bytes, list[Entry]]]:
        """(key, the events it is made of) of every tally, the oldest first."""
        pages = self._scan(layout.INDEX)
        page = next(pages, None)
        for key, packed in self._scan(layout.TALLY):
            found: list[Entry] = []
            while page is not None and page[0][1:-8] <= key[1:]:  # both ascend by the tally's key
                if page[0][1:-8] == key[1:]:
                    found += layout.unpack_entries(page[1])
                page = next(pages, None)
            yield key[1:], [*found, *layout.unpack_entries(packed[layout.TALLY_BYTES :])]

    def ledger(self) -> Iterator[tuple[bytes, tuple[bool, str], Awaited | tuple[int, int, int, str | None]]]:
        """(identifier, (livemode, event name), what is remembered of it).

        That is, of one that counted, (offset, appended_at_ms, clock_ms, cancelled_by).
        """
        shared: dict[bytes, tuple[bool, str]] = {}
        for key, packed in self._scan(layout.LEDGER):
            identifier, _, names = key[1:].partition(b"\0")
            known = shared.get(names) or shared.setdefault(names, layout.ledger_names(names))
            awaited = packed[0] == layout.AWAITED
            yield identifier, known, layout.unpack_awaited(packed) if awaited else layout.unpack_counted(packed)

    def bodies(self) -> Iterator[tuple[int, bytes]]:
        """(offset, the record's value as it came) of every event that may still be asked for."""
        for key, page in self._scan(layout.BODIES):
            yield from layout.unpack_bodies(layout.page_start_of(key), page)

    def awaiting(self) -> Iterator[tuple[bytes, tuple[bool, str]]]:
        """(identifier, (livemode, event name)) of every event that is marked as awaited."""
        for marker, _ in self._scan(layout.AWAITING):
            identifier, _, names = marker.removeprefix(layout.AWAITING + layout.LEDGER).partition(b"\0")
            yield identifier, layout.ledger_names(names)

    def ranges(self) -> Iterator[tuple[bytes, int]]:
        """(adjustment id, the clock when it was applied) of every range."""
        for key, clock in self._scan(layout.RANGE):
            yield key[1:], int.from_bytes(clock, "big", signed=True)

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        found: Iterator[tuple[bytes, bytes]] = self._rocks.items(from_key=prefix)  # type: ignore[assignment]  # raw
        return itertools.takewhile(lambda one: one[0].startswith(prefix), found)

    def close(self) -> None:
        self._rocks.close()


class DamagedState(NamedTuple):
    """A store or snapshot that cannot be looked into."""

    where: str
    cursor: int
    fault: str


def _opened(path: Path) -> Rdict:
    for left in reversed(range(_TRIES)):
        try:
            return Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
        except Exception:
            if not left:
                raise
    raise AssertionError


def store_paths(directories: tuple[Path, ...], generation: int, partition: int) -> list[Path]:
    """The stores of a partition anywhere in these directories. From generation 2 on they are in ``g{number}``."""
    found = {path for home in directories for path in home.rglob(f"partition-{partition}")}
    return sorted(path for path in found if (path / "CURRENT").exists() and _generation_of(path) == generation)


def _generation_of(path: Path) -> int:
    match = re.fullmatch(r"g(\d+)", path.parent.name)
    return int(match[1]) if match else 1


@contextlib.contextmanager
def inspected(
    directories: tuple[Path, ...], snapshots: str, generation: int, partition: int
) -> Iterator[list[StoreInspection | DamagedState]]:
    """The states of one partition that can be reached, each as of its own cursor: stores, and the newest snapshot.

    ``snapshots``: the URL of the generation's snapshot store, or nothing.
    """
    with contextlib.ExitStack() as opened:
        found = [_inspected(path, f"store {path}", opened) for path in store_paths(directories, generation, partition)]
        if snapshots:
            copy = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="meterline-audit-"))) / "store"
            with translated():
                fetched = Snapshots(snapshots).fetch_newest(partition, copy)
            if fetched is not None:
                cursor, fault = fetched
                where = f"snapshot {snapshots}/partition-{partition} at offset {cursor}"
                found.append(DamagedState(where, cursor, fault) if fault else _inspected(copy, where, opened))
        yield [one for one in found if isinstance(one, DamagedState) or one.is_signed]


def _inspected(path: Path, where: str, opened: contextlib.ExitStack) -> StoreInspection | DamagedState:
    try:
        return opened.enter_context(contextlib.closing(StoreInspection(path, where)))
    except Exception as error:
        return DamagedState(where, 0, f"it cannot be read: {error}")
