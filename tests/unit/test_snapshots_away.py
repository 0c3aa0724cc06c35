"""A snapshot store that does not answer: it costs a recovery time, and no worker its life."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from pipeline.codec.records import Codec
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.admin import TopicState
from pipeline.kafka.topics import Topics
from pipeline.worker import opening
from pipeline.worker.inspection import inspected
from pipeline.worker.opening import Opening
from pipeline.worker.partition import Origin
from pipeline.worker.snapshots import Snapshots
from pipeline.worker.stores import LocalStores

TOPICS = Topics("test")
RULES = FoldRules()
ORIGIN = Origin(TOPICS.journal, "topic-id", 0, 1, RULES.version)


class EndpointConnectionError(Exception):
    """botocore's, which s3fs hands on as it is: no OSError."""


class Bucket(LocalFileSystem):
    """A directory behind an endpoint that may be away."""

    protocol = "bucket"
    cachable = False
    away = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(path).removeprefix("bucket://")

    def makedirs(self, *arguments: Any, **options: Any) -> Any:
        return self._answer(super().makedirs, arguments, options)

    def glob(self, *arguments: Any, **options: Any) -> Any:
        return self._answer(super().glob, arguments, options)

    def get_file(self, *arguments: Any, **options: Any) -> Any:
        return self._answer(super().get_file, arguments, options)

    def _answer(self, ask: Any, arguments: Any, options: Any) -> Any:
        if Bucket.away:
            raise EndpointConnectionError('cannot connect to "https://me:s3cret@store/b?X-Amz-Signature=51gned"')
        return ask(*arguments, **options)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStores:
    monkeypatch.setattr(Bucket, "away", False)
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    return LocalStores(tmp_path / "state", Snapshots(f"bucket://{tmp_path}/snapshots"))


class Cluster:
    """A journal that begins and ends here."""

    def __init__(self, first: int, end: int) -> None:
        self._bounds = first, end

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        return {name: TopicState(name, "topic-id", 1, 1, stamped) for name in names}

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        return self._bounds


def opening_of(stores: LocalStores, first: int, end: int) -> Opening:
    cluster: Any = Cluster(first, end)
    return Opening(cluster, stores, TOPICS, RULES, Codec())


def leave_snapshot(stores: LocalStores, cursor: int, elsewhere: Path) -> None:
    """Another worker's, which stands at this cursor."""
    assert stores._snapshots is not None
    its = LocalStores(elsewhere, stores._snapshots)
    partition = opening_of(its, 0, cursor).open(0, 0)
    partition.next_offset = cursor
    partition.store.write(*partition.cut().writes)
    its.keep(ORIGIN, cursor, its.checkpoint(partition.store))
    partition.close()


def in_vain(asked: Opening, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable, match="snapshot store"):
            asked.open(0, 7)


def test_a_snapshot_that_cannot_be_made_is_said_and_counted_without_a_secret(
    stores: LocalStores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores.open(0)
    store.write({b"a": b"1"})
    monkeypatch.setattr(Bucket, "away", True)
    for cursor in (5, 6):
        checkpoint = stores.checkpoint(store)
        assert not stores.keep(ORIGIN, cursor, checkpoint)
        assert not checkpoint.exists()
    monkeypatch.setattr(Bucket, "away", False)
    assert stores.keep(ORIGIN, 7, stores.checkpoint(store))
    monkeypatch.setattr(Bucket, "away", True)
    stores.keep(ORIGIN, 8, stores.checkpoint(store))
    said = [record.message for record in caplog.records]
    assert [line.split(": ")[1] for line in said] == [
        "no snapshot at offset 5 (1 failed in a row)",
        "no snapshot at offset 6 (2 failed in a row)",
        "no snapshot at offset 8 (1 failed in a row)",
    ]
    assert "EndpointConnectionError" in said[0]
    assert "s3cret" not in caplog.text
    assert "51gned" not in caplog.text


def test_a_short_absence_is_waited_for(stores: LocalStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_snapshot(stores, 5, tmp_path / "its")
    asked = opening_of(stores, 0, 9)
    monkeypatch.setattr(Bucket, "away", True)
    in_vain(asked, opening.TRIES - 1)
    monkeypatch.setattr(Bucket, "away", False)
    assert asked.open(0, 7).next_offset == 5


def test_after_that_the_journal_does_and_nothing_is_published_twice(
    stores: LocalStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave_snapshot(stores, 5, tmp_path / "its")
    asked = opening_of(stores, 0, 9)
    monkeypatch.setattr(Bucket, "away", True)
    in_vain(asked, opening.TRIES - 1)
    partition = asked.open(0, 7)
    assert (partition.next_offset, partition.silent_below) == (0, 7)
    assert "from the journal's beginning" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_journal_without_its_beginning_is_no_way_out(
    stores: LocalStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is it refused: whether a snapshot reaches that far is not known before somebody answers."""
    leave_snapshot(stores, 5, tmp_path / "its")
    asked = opening_of(stores, 3, 9)
    monkeypatch.setattr(Bucket, "away", True)
    in_vain(asked, opening.TRIES + 2)
    monkeypatch.setattr(Bucket, "away", False)
    assert asked.open(0, 7).next_offset == 5


def test_a_store_that_the_journal_has_left_behind_waits_for_the_snapshots_too(
    stores: LocalStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening_of(stores, 0, 0).open(0, 0).close()
    leave_snapshot(stores, 5, tmp_path / "its")
    asked = opening_of(stores, 3, 9)
    monkeypatch.setattr(Bucket, "away", True)
    in_vain(asked, opening.TRIES + 2)
    monkeypatch.setattr(Bucket, "away", False)
    assert asked.open(0, 7).next_offset == 5


def test_what_no_snapshot_reaches_is_refused(stores: LocalStores) -> None:
    with pytest.raises(Refusal, match="usage in between was deleted"):
        opening_of(stores, 3, 9).open(0, 7)


def test_an_audit_that_cannot_reach_it_says_so(stores: LocalStores, tmp_path: Path) -> None:
    leave_snapshot(stores, 7, tmp_path / "elsewhere")
    url = f"bucket://{tmp_path}/snapshots"
    with inspected((), url, 1, 0) as found:
        assert len(found) == 1
    Bucket.away = True
    with pytest.raises(Unavailable, match="snapshot store: EndpointConnectionError"), inspected((), url, 1, 0):
        pass


@pytest.mark.parametrize("first", [7, 8])
def test_a_snapshot_is_enough_if_it_stands_where_the_journal_begins_by_now(
    stores: LocalStores, tmp_path: Path, first: int
) -> None:
    opening_of(stores, 0, 3).open(0, 0).close()  # a store of its own, which is too old
    leave_snapshot(stores, 7, tmp_path / "elsewhere")
    if first > 7:
        with pytest.raises(Refusal, match="begins at offset 8, but the fold has to go on at 0"):
            opening_of(stores, first, 9).open(0, 7)
    else:
        partition = opening_of(stores, first, 9).open(0, 7)
        assert partition.next_offset == 7
        partition.close()
