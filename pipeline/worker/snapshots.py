"""Copies of partitions' stores in a directory or an object store, so that a partition can move without folding anew.

A snapshot is a RocksDB checkpoint at one cursor. Its files never change once written, so each is copied once and
shared by all later snapshots. A manifest names the files with their checksums; it is written last and at once, so
that a snapshot is whole or absent.

    {url}/partition-{n}/files/{name}-{sha256}      a file of one or more checkpoints
    {url}/partition-{n}/{cursor, 20 digits}.json   a manifest
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import Unavailable
from pipeline.worker.leftovers import CHECKPOINT, RESTORE
from pipeline.worker.partition import Origin
from pipeline.worker.store import Store

log = logging.getLogger("meterline.snapshots")

Mark = tuple[str, int, int]
"""A file's name, inode and size."""

KEPT = 3
"""Snapshots of a partition that stay; older ones are deleted."""


class Snapshots:
    """The snapshot store at an fsspec URL, for example file:///var/lib/meterline/snapshots or s3://bucket/prefix."""

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._sealed: dict[int, dict[Mark, str]] = {}
        """By partition, of the tables of its last checkpoint."""

    def take(self, origin: Origin, cursor: int, checkpoint: Path) -> None:
        """Copy a checkpoint directory, whose state stands at ``cursor``, and delete it."""
        home = f"{self._root}/partition-{origin.partition}"
        self._files.makedirs(f"{home}/files", exist_ok=True)
        files, before, now = {}, self._sealed.get(origin.partition, {}), {}
        for path in sorted(checkpoint.iterdir()):
            mark = _mark_of(path)
            seal = before.get(mark) or _seal_of(path)
            if path.suffix == ".sst":  # never written again: the next checkpoint has a hard link to it
                now[mark] = seal
            target = f"{home}/files/{path.name}-{seal}"
            if not self._files.exists(target):
                self._files.put_file(str(path), target + ".part")
                self._files.mv(target + ".part", target)
            files[path.name] = seal
        manifest = {"origin": dataclasses.asdict(origin), "cursor": cursor, "files": files}
        target = f"{home}/{cursor:020d}.json"
        self._files.pipe_file(target + ".part", json.dumps(manifest).encode())
        self._files.mv(target + ".part", target)
        shutil.rmtree(checkpoint)
        self._sealed[origin.partition] = now
        self._prune(home)

    def newest_cursors(self) -> dict[int, int]:
        """By partition, the cursor of the newest snapshot, whosever it is."""
        found: dict[int, int] = {}
        for place in self._files.glob(f"{self._root}/partition-*/*.json"):
            home, name = place.rsplit("/", 2)[-2:]
            number = int(home.removeprefix("partition-"))
            found[number] = max(found.get(number, 0), _cursor_of(name))
        return found

    def delete_all(self) -> None:
        """Every snapshot of every partition."""
        for home in self._files.glob(f"{self._root}/partition-*"):
            self._files.rm(home, recursive=True)

    def newest_cursor(self, origin: Origin) -> int | None:
        """The cursor of the newest snapshot of exactly this origin, or None."""
        return next((manifest["cursor"] for manifest in self._manifests(origin)), None)

    def restore(self, origin: Origin, path: Path) -> int | None:
        """Put the newest whole snapshot of this origin at ``path``, which must not exist. Returns its cursor, or None.

        A snapshot with a missing or damaged file is passed over, with a word in the log.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        for manifest in self._manifests(origin):
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=RESTORE) as staging:
                whole = Path(staging) / "store"
                fault = self._fetch(origin.partition, manifest["files"], whole)
                if fault is None:
                    whole.rename(path)
                    return int(manifest["cursor"])
            log.warning(
                "partition %d: the snapshot at offset %d is passed over: %s",
                origin.partition,
                manifest["cursor"],
                fault,
            )
        return None

    def fetch_newest(self, partition: int, path: Path) -> tuple[int, str | None] | None:
        """Put the newest snapshot at ``path``, whosever it is: its cursor, and what is wrong with it, if anything.

        None when there is no snapshot. One that is replaced by a newer one meanwhile is let go.
        """
        home = f"{self._root}/partition-{partition}"
        while places := sorted(self._files.glob(f"{home}/*.json")):
            manifest = self._manifest(places[-1])
            if manifest is None:
                return _cursor_of(places[-1]), f"{places[-1]} is damaged"
            fault = self._fetch(partition, manifest["files"], path)
            if fault is None or self._files.exists(places[-1]):
                return int(manifest["cursor"]), fault
            shutil.rmtree(path)
        return None

    def _fetch(self, partition: int, files: dict[str, str], target: Path) -> str | None:
        """Copy the files of a snapshot; what is wrong with it, or None."""
        target.mkdir()
        for name, seal in files.items():
            source = f"{self._root}/partition-{partition}/files/{name}-{seal}"
            if not self._files.exists(source):
                return f"{source} is missing"
            self._files.get_file(source, str(target / name))
            with (target / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != seal:
                    return f"{source} is damaged"
        return None

    def _manifests(self, origin: Origin) -> list[dict[str, Any]]:
        """Manifests of this origin, newest first."""
        home = f"{self._root}/partition-{origin.partition}"
        found = []
        for place in sorted(self._files.glob(f"{home}/*.json"), reverse=True):
            manifest = self._manifest(place)
            if manifest is None:
                log.warning("partition %d: %s is damaged, and passed over", origin.partition, place)
            elif manifest["origin"] == dataclasses.asdict(origin):
                found.append(manifest)
        return found

    def _manifest(self, place: str) -> dict[str, Any] | None:
        """None for one that is damaged."""
        try:
            manifest: dict[str, Any] = json.loads(self._files.cat_file(place))
            return manifest if {"origin", "cursor", "files"} <= manifest.keys() else None
        except (ValueError, AttributeError):
            return None

    def _prune(self, home: str) -> None:
        manifests = [
            (place, self._manifest(place)) for place in sorted(self._files.glob(f"{home}/*.json"), reverse=True)
        ]
        whole = [(place, manifest) for place, manifest in manifests if manifest is not None]
        kept = dict(whole[:KEPT])
        for place, _ in manifests:
            if place not in kept:
                self._files.rm_file(place)
        used = {f"{name}-{seal}" for manifest in kept.values() for name, seal in manifest["files"].items()}
        for place in self._files.ls(f"{home}/files", detail=False):
            if place.rsplit("/", 1)[-1] not in used:
                self._files.rm_file(place)


def _cursor_of(place: str) -> int:
    """The cursor in a manifest's name."""
    return int(place.rsplit("/", 1)[-1].removesuffix(".json"))


def checkpoint_of(store: Store, beside: Path) -> Path:
    """A checkpoint of a store in a new directory next to it, by hard links."""
    target = Path(tempfile.mkdtemp(dir=beside, prefix=CHECKPOINT)) / "store"
    store.checkpoint(target)
    return target


@contextlib.contextmanager
def translated() -> Generator[None, None, None]:
    """What the library behind a snapshot store's URL raises is any exception, often no OSError."""
    try:
        yield
    except Exception as error:
        raise Unavailable(f"the snapshot store: {_said(error)}") from None


def _said(error: Exception) -> str:
    """An error in words, without its URLs: their users and queries are secrets."""
    return re.sub(r"\w+://\S+", "(a URL)", f"{type(error).__name__}: {error}")


def _mark_of(path: Path) -> Mark:
    stat = path.stat()
    return path.name, stat.st_ino, stat.st_size


def _seal_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
