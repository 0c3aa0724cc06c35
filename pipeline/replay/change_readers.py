"""What each record of a log of changes did, by the rules of its log; and what stood before it, and does not now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey, CatalogObject
from pipeline.domain.catalog_log import Catalog, Refused
from pipeline.domain.generations import Generations
from pipeline.errors import UndecodableRecord

UNREADABLE = "unreadable"
_OF_EVERY_CHANGE = frozenset({"version", "updated_ms", "request"})


class Told(NamedTuple):
    """What one record is to a person."""

    kind: str
    entity: str
    """Kind and id, with the mode where it is test; empty where nothing can be read."""
    what: str
    stands: bool = True
    """Else everybody ignores it: another was first, or it breaks a rule."""
    lacks: str = ""
    """What must have stood before it and does not; told once of each entity."""


Reader = Callable[[bytes | None], Told]
"""Told every value of one partition, in order."""


def catalog_reader(codec: Codec) -> Reader:
    """Whoever writes a version has seen the one before it: where that is missing, it was removed."""
    catalog = Catalog()
    lacking: set[str] = set()

    def told(value: bytes | None) -> Told:
        try:
            one = codec.decode_catalog(value)
        except UndecodableRecord as error:
            return Told(UNREADABLE, "", error.reason, stands=False)
        kind = type(one).__name__
        entity = f"{kind} {one.id}{'' if one.livemode else ' (test)'}"
        outcome = catalog.apply(one)
        if not isinstance(outcome, Refused):
            return Told(kind, entity, _done(outcome.before, one))
        there = 0 if outcome.present is None else outcome.present.version
        lacks = ""
        if one.version > there + 1 and entity not in lacking:
            lacking.add(entity)
            missing = f"{there + 1} to {one.version - 1}" if one.version > there + 2 else str(there + 1)
            lacks = f"version {missing} of {entity} is missing, and {one.version} is there"
        return Told(kind, entity, f"version {one.version}: {outcome.reason}", stands=False, lacks=lacks)

    return told


def generations_reader(codec: Codec) -> Reader:
    known = Generations()

    def told(value: bytes | None) -> Told:
        nonlocal known
        try:
            step = codec.decode_generation(value)
        except UndecodableRecord as error:
            return Told(UNREADABLE, "", error.reason, stands=False)
        stands = known.allows(step)
        known = known.after(step)
        return Told("Generation", f"Generation {step.number}", step.state, stands=stands)

    return told


def adjustments_reader(codec: Codec) -> Reader:
    def told(value: bytes | None) -> Told:
        try:
            one = codec.decode_adjustment(value)
        except UndecodableRecord as error:
            return Told(UNREADABLE, "", error.reason, stands=False)
        entity = f"Adjustment {one.id}{'' if one.livemode else ' (test)'}"
        taken = "a range" if one.identifier is None else one.identifier
        return Told("Adjustment", entity, f"takes back {taken} of {one.event_name}")

    return told


def _done(before: CatalogObject | None, one: CatalogObject) -> str:
    if one.deleted:
        return "deleted"
    if before is None or before.deleted:
        return f"made in place of {one.rolled_from}" if isinstance(one, ApiKey) and one.rolled_from else "made"
    names = [field.name for field in dataclasses.fields(one) if field.name not in _OF_EVERY_CHANGE]
    changed = [name.removesuffix("_ms") for name in names if getattr(before, name) != getattr(one, name)]
    return f"changed {', '.join(changed)}" if changed else "changed nothing"
