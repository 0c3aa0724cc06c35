"""Records of the catalog and of events, as ``tail`` shows them."""

from __future__ import annotations

from pipeline.cli.records import as_json, as_line, decoder
from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey, Meter, Plan, Tier
from pipeline.domain.core_events import CoreEvent, RelatedObject
from pipeline.kafka.reading import Record

CODEC = Codec()
TIMES = {"livemode": True, "created_ms": 1_763_820_000_000, "updated_ms": 1_763_820_000_500, "version": 2}


def shown(topic: str, value: bytes) -> dict:
    return decoder(topic, CODEC)(Record(0, 7, 1_763_820_000_000, b"k", value, ()))


def test_a_meter_is_shown_with_its_fields_and_times():
    meter = Meter(
        id="mtr_1", **TIMES, display_name="M", event_name="m", formula="sum", deactivated_at_ms=1_763_820_000_000
    )
    said = shown("catalog", CODEC.encode_catalog(meter))
    assert (said["record"], said["id"], said["version"], said["status"]) == ("Meter", "mtr_1", 2, "inactive")
    assert (said["created"], said["deactivated_at"]) == ("2025-11-22T14:00:00Z", "2025-11-22T14:00:00Z")


def test_a_plan_is_shown_with_exact_amounts():
    plan = Plan(
        id="p", **TIMES, product="g", currency="usd", interval="month", billing_scheme="tiered", tiers_mode="volume",
        tiers=(Tier(10, 5 * 10**11, None), Tier(None, None, 10**12)),
    )  # fmt: skip
    said = shown("catalog", CODEC.encode_catalog(plan))
    assert said["tiers"][0] == {"up_to": 10, "unit_amount_decimal": "0.5", "flat_amount_decimal": None}
    record = Record(0, 7, 1_763_820_000_000, b"k", b"", ())
    assert '"interval": "month"' in as_json(record, said)
    assert "Plan" in as_line(record, said)


def test_a_keys_hash_is_not_shown():
    key = ApiKey(
        id="k", **TIMES, name="n", kind="secret", scopes=(), hash="0123456789", hash_key="kid", hint="sk_live_…"
    )
    assert "0123456789" not in str(shown("catalog", CODEC.encode_catalog(key)))


def test_an_event_is_shown():
    event = CoreEvent("evt_1", "plan.created", 1_763_820_000_000, True, RelatedObject("p", "plan", "/v1/plans/p"), "{}")
    said = shown("core-events", CODEC.encode_core_event(event))
    assert (said["record"], said["type"], said["created"]) == ("CoreEvent", "plan.created", "2025-11-22T14:00:00Z")
    assert said["related"]["id"] == "p"


def test_what_is_none_says_so():
    assert shown("catalog", b"nonsense")["undecodable"] == "unknown_framing"
    assert shown("core-events", b"")["undecodable"] == "no_value"
