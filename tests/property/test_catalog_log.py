"""The catalog's log: whatever is written into it, everybody who reads it agrees, and no rule breaks."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey, CatalogObject, Meter, Plan, Product
from pipeline.domain.catalog_log import Applied, Catalog, Refused

CODEC = Codec()
few = st.sampled_from(["a", "b", "c"])
common = {
    "id": few,
    "livemode": st.booleans(),
    "created_ms": st.integers(1, 3),
    "updated_ms": st.integers(1, 3),
    "version": st.integers(1, 5),
    "request": st.one_of(st.none(), st.builds("{}.{}".format, few, few)),
}
deletable = {**common, "deleted": st.booleans()}
meters = st.builds(
    Meter, **common, display_name=few, event_name=st.sampled_from(["x", "y"]), formula=st.just("sum"),
    deactivated_at_ms=st.one_of(st.none(), st.integers(1, 3)),
)  # fmt: skip
products = st.builds(Product, **deletable, name=few, metadata=st.dictionaries(few, few, max_size=2))
plans = st.builds(
    Plan, **deletable, product=few, currency=st.just("usd"), interval=st.just("month"), amount=st.just(10**12),
    meter=st.one_of(st.none(), few), usage_type=st.just("licensed"), nickname=st.one_of(st.none(), few),
).map(lambda plan: plan if plan.meter is None else dataclasses.replace(plan, usage_type="metered"))  # fmt: skip
keys = st.builds(
    ApiKey, **common, name=few, kind=st.just("secret"), scopes=st.just(()), hash=few, hash_key=few, hint=few
)
anything: st.SearchStrategy[CatalogObject] = st.one_of(meters, products, plans, keys)


@st.composite
def logs(draw: st.DrawFn) -> list[CatalogObject]:
    """Records as racing, confused and hostile writers make them; half of them plausible, or nothing would stand."""
    catalog, log = Catalog(), []
    for one in draw(st.lists(anything, max_size=25)):
        before = catalog.present(type(one), one.livemode, one.id)
        plausible = one
        if draw(st.booleans()):
            plausible = dataclasses.replace(one, version=1 if before is None else before.version + 1)
            if isinstance(before, Meter) and isinstance(one, Meter):
                plausible = dataclasses.replace(
                    before, version=before.version + 1, deactivated_at_ms=one.deactivated_at_ms
                )
        log.append(plausible)
        catalog.apply(plausible)
    return log


def read(log: list[CatalogObject]) -> tuple[Catalog, list[Applied | Refused]]:
    catalog = Catalog()
    return catalog, [catalog.apply(one) for one in log]


def standing(catalog: Catalog) -> dict[tuple[type, bool, str], CatalogObject]:
    return {
        (kind, livemode, id_): one
        for kind in (Meter, Product, Plan, ApiKey)
        for livemode in (False, True)
        for id_, one in catalog.shelf(kind, livemode).objects.items()
    }


@settings(max_examples=120, deadline=None)
@given(logs())
def test_two_readers_agree_also_when_one_reads_it_from_bytes(log):
    first, said = read(log)
    second, again = read([CODEC.decode_catalog(CODEC.encode_catalog(one)) for one in log])
    assert said == again
    assert standing(first) == standing(second)


@settings(max_examples=120, deadline=None)
@given(logs())
def test_after_every_record_no_rule_is_broken(log):
    catalog = Catalog()
    for one in log:
        catalog.apply(one)
        objects = standing(catalog)
        active = [
            (meter.livemode, meter.event_name)
            for (kind, _, _), meter in objects.items()
            if kind is Meter and meter.active
        ]
        assert len(active) == len(set(active)), "two active meters read one event name"
        for mode, name in itertools.product((False, True), ("x", "y")):
            found = catalog.active_meter(mode, name)
            assert ((mode, name) in active) == (found is not None)
        live = [plan for (kind, _, _), plan in objects.items() if kind is Plan and not plan.deleted]
        for plan in live:
            product = objects.get((Product, plan.livemode, plan.product))
            assert product is not None, "a plan without its product"
            assert not product.deleted, "a plan without its product"
        for mode, product in itertools.product((False, True), "abc"):
            mine = {plan.id for plan in live if plan.product == product and plan.livemode == mode}
            assert catalog.plans_of(mode, product) == mine


@settings(max_examples=120, deadline=None)
@given(logs())
def test_versions_follow_each_other_and_what_is_refused_changes_nothing(log):
    catalog = Catalog()
    for one in log:
        before, objects = catalog.present(type(one), one.livemode, one.id), standing(catalog)
        outcome = catalog.apply(one)
        if isinstance(outcome, Applied):
            assert outcome == Applied(before, one)
            assert one.version == (1 if before is None else before.version + 1)
            assert catalog.present(type(one), one.livemode, one.id) is one
        else:
            assert outcome.present is before
            assert standing(catalog) == objects


@settings(max_examples=120, deadline=None)
@given(logs())
def test_a_second_copy_of_any_record_changes_nothing(log):
    """A producer's retry, or a repeated request on another gateway."""
    once, _ = read(log)
    twice, _ = read([copy for one in log for copy in (one, one)])
    assert standing(once) == standing(twice)


@settings(max_examples=120, deadline=None)
@given(logs(), st.randoms(use_true_random=False))
def test_of_two_writers_that_saw_the_same_one_wins(log, random):
    catalog, _ = read(log)
    objects = [one for one in standing(catalog).values() if not one.deleted]
    if not objects:
        return
    one = random.choice(sorted(objects, key=lambda one: (type(one).__name__, one.livemode, one.id)))
    name = "nickname" if isinstance(one, Plan) else "display_name" if isinstance(one, Meter) else "name"
    mine, theirs = (dataclasses.replace(one, version=one.version + 1, **{name: text}) for text in ("mine", "theirs"))
    for first, second in ((mine, theirs), (theirs, mine)):
        other, said = read([*log, first, second])
        assert isinstance(said[-2], Applied)
        assert isinstance(said[-1], Refused)
        assert said[-1].reason == "version"
        assert other.present(type(one), one.livemode, one.id) is first


@settings(max_examples=120, deadline=None)
@given(logs())
def test_lists_have_each_object_once_in_the_order_of_the_log(log):
    catalog, said = read(log)
    for kind, mode in itertools.product((Meter, Product, Plan, ApiKey), (False, True)):
        shelf = catalog.shelf(kind, mode)
        newest = [one.id for one in shelf.newest_first()]
        made = [
            outcome.after.id
            for outcome in said
            if isinstance(outcome, Applied)
            and type(outcome.after) is kind
            and outcome.after.livemode == mode
            and (outcome.before is None or outcome.before.deleted)
        ]
        there = {id_ for id_, one in shelf.objects.items() if not one.deleted}
        last_made = list(dict.fromkeys(reversed(made)))
        assert newest == [id_ for id_ in last_made if id_ in there]
        assert [one.id for one in shelf.oldest_first(above=-1)] == newest[::-1]
        for place, id_ in enumerate(newest):
            assert [one.id for one in shelf.newest_first(below=shelf.place[id_])] == newest[place + 1 :]
            assert [one.id for one in shelf.oldest_first(above=shelf.place[id_])] == newest[:place][::-1]


@given(logs())
def test_a_request_finds_what_it_wrote_last(log):
    catalog, said = read(log)
    for key in "abc":
        mine = [
            outcome.after
            for outcome in said
            if isinstance(outcome, Applied) and (outcome.after.request or "").partition(".")[0] == key
        ]
        seen = catalog.seen(key)
        assert (None if seen is None else seen.written) is (mine[-1] if mine else None)
