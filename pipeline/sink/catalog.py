"""The catalog's log as rows: what stands, by the same rules as in every gateway.

Whether a record stands depends on all before it, so whoever begins reads the log from its first record. It is small,
and a row that is inserted again is the same row. API keys are nobody's to query: they are left out.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from pipeline.codec.columns import BOOLEAN, INT, LONG, MOMENT, TEXT
from pipeline.codec.records import Codec
from pipeline.domain.catalog import CatalogObject, Meter, Plan, Product
from pipeline.domain.catalog_log import Applied, Catalog
from pipeline.domain.limits import VALUE_PRECISION, VALUE_SCALE
from pipeline.errors import UndecodableRecord
from pipeline.sink.tabulation import Letter, Tabulated
from pipeline.stream.batch import RecordBatch

AMOUNT: Final = pa.decimal128(VALUE_PRECISION, VALUE_SCALE)
TEXTS: Final = pa.list_(TEXT)
TEXT_MAP: Final = pa.map_(TEXT, TEXT)

_COMMON: list[tuple[str, pa.DataType, Callable[[Any], Any]]] = [
    ("id", TEXT, lambda one: one.id),
    ("livemode", BOOLEAN, lambda one: one.livemode),
    ("created", MOMENT, lambda one: one.created_ms),
    ("updated", MOMENT, lambda one: one.updated_ms),
    ("deleted", BOOLEAN, lambda one: one.deleted),
    ("version", LONG, lambda one: one.version),
]


def _as_it_is(name: str, kind: pa.DataType) -> tuple[str, pa.DataType, Callable[[Any], Any]]:
    return name, kind, lambda one: getattr(one, name)


def _amount(amount: int | None) -> decimal.Decimal | None:
    return None if amount is None else _EXACT.scaleb(decimal.Decimal(amount), -VALUE_SCALE)


def _sizes(one: Product) -> list[tuple[str, str]]:
    sizes = one.package_dimensions
    return [] if sizes is None else [(name, getattr(sizes, name)) for name in ("height", "length", "weight", "width")]


_EXACT = decimal.Context(prec=100)

COLUMNS: dict[type[CatalogObject], tuple[str, list[tuple[str, pa.DataType, Callable[[Any], Any]]]]] = {
    Meter: (
        "meters",
        [
            *_COMMON,
            _as_it_is("event_name", TEXT),
            _as_it_is("display_name", TEXT),
            ("status", TEXT, lambda one: "active" if one.active else "inactive"),
            _as_it_is("formula", TEXT),
            ("deactivated_at", MOMENT, lambda one: one.deactivated_at_ms),
            ("customer_payload_key", TEXT, lambda one: one.customer_key),
            ("value_payload_key", TEXT, lambda one: one.value_key),
            _as_it_is("event_time_window", TEXT),
            _as_it_is("dimension_payload_keys", TEXTS),
        ],
    ),
    Product: (
        "products",
        [
            *_COMMON,
            *(_as_it_is(name, TEXT) for name in ("name", "description", "default_price", "statement_descriptor")),
            *(_as_it_is(name, TEXT) for name in ("tax_code", "unit_label", "url")),
            *(_as_it_is(name, BOOLEAN) for name in ("active", "shippable")),
            *(_as_it_is(name, TEXTS) for name in ("images", "marketing_features")),
            ("metadata", TEXT_MAP, lambda one: list(one.metadata.items())),
            ("package_dimensions", TEXT_MAP, _sizes),
        ],
    ),
    Plan: (
        "plans",
        [
            *_COMMON,
            ("product", TEXT, lambda one: one.product or ""),
            *(_as_it_is(name, TEXT) for name in ("meter", "currency", "nickname", "interval", "billing_scheme")),
            *(_as_it_is(name, TEXT) for name in ("usage_type", "tiers_mode")),
            _as_it_is("active", BOOLEAN),
            *(_as_it_is(name, INT) for name in ("interval_count", "trial_period_days")),
            ("amount_decimal", AMOUNT, lambda one: _amount(one.amount)),
            ("tiers_up_to", pa.list_(LONG), lambda one: [tier.up_to for tier in one.tiers]),
            (
                "tiers_unit_amount_decimal",
                pa.list_(AMOUNT),
                lambda one: [_amount(tier.unit_amount) for tier in one.tiers],
            ),
            (
                "tiers_flat_amount_decimal",
                pa.list_(AMOUNT),
                lambda one: [_amount(tier.flat_amount) for tier in one.tiers],
            ),
            ("transform_divide_by", LONG, lambda one: one.transform_usage and one.transform_usage.divide_by),
            ("transform_round", TEXT, lambda one: one.transform_usage and one.transform_usage.round),
            ("metadata", TEXT_MAP, lambda one: list(one.metadata.items())),
        ],
    ),
}
"""Of each class: its table, and its columns with what stands in them."""

SCHEMAS: dict[str, pa.Schema] = {
    table: pa.schema([(name, kind) for name, kind, _ in columns]) for table, columns in COLUMNS.values()
}


class CatalogTabulator:
    """Makes rows of the log's batches, in their order. A batch that begins at the first record begins anew."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._catalog = Catalog()
        self._next = 0

    def __call__(self, batch: RecordBatch) -> Tabulated:
        """Raises AssertionError when records were left out: nothing could be said of the rest."""
        if batch.start == 0:
            self._catalog, self._next = Catalog(), 0
        assert batch.start == self._next, f"{batch.topic} goes on at {batch.start}, not at {self._next}"
        done = Tabulated()
        standing: dict[type[CatalogObject], list[CatalogObject]] = {}
        for row, value in enumerate(batch.values):
            try:
                one = self._codec.decode_catalog(value)
            except UndecodableRecord as error:
                done.letters.append(Letter(row, error.reason))
                continue
            if isinstance(self._catalog.apply(one), Applied) and type(one) in COLUMNS:
                standing.setdefault(type(one), []).append(one)
        self._next = batch.next_offset
        for kind, objects in standing.items():
            table, columns = COLUMNS[kind]
            arrays = [pa.array([content(one) for one in objects], column) for _, column, content in columns]
            done.add(table, pa.table(arrays, schema=SCHEMAS[table]))
        return done
