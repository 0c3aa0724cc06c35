"""Two real gateways and clients that race on them: the log's order names one winner, and everybody agrees on it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import stripe

from pipeline.kafka.producer import Publisher
from tests.conftest import Stack
from tests.gateways import GatewayHome, until

rounds = pytest.mark.parametrize("number", range(12))
SUM = {"formula": "sum"}


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    with GatewayHome(stack, f"t{secrets.token_hex(6)}", tmp_path_factory.mktemp("races")) as home:
        home.start()
        home.start()
        yield home


@pytest.fixture(scope="module")
def key(home: GatewayHome) -> str:
    return home.new_key()


@pytest.fixture(scope="module")
def clients(home: GatewayHome, key: str) -> list[stripe.StripeClient]:
    """One on each gateway."""
    return [home.stripe_client(key, gateway) for gateway in home._gateways]


def race(*acts: Callable[[], Any]) -> list[Any]:
    """Do all at the same moment; what each answered, or was refused with."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return act()
        except stripe.StripeError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def refused(outcomes: list[Any]) -> list[stripe.StripeError]:
    return [outcome for outcome in outcomes if isinstance(outcome, stripe.StripeError)]


def done(outcomes: list[Any]) -> list[Any]:
    return [outcome for outcome in outcomes if not isinstance(outcome, stripe.StripeError)]


def both_show(clients: list[stripe.StripeClient], show: Callable[[stripe.StripeClient], Any], wanted: Any) -> None:
    until(lambda: [show(client) for client in clients] == [wanted] * 2, f"both gateways show {wanted}")


def make_meter(client: stripe.StripeClient, event_name: str, **options: Any) -> Any:
    asked = {"display_name": "M", "event_name": event_name, "default_aggregation": SUM}
    return client.v1.billing.meters.create(asked, options)


@rounds
def test_what_one_gateway_made_the_other_shows_soon(clients, number):
    made = make_meter(clients[number % 2], f"seen_{number}")
    assert clients[number % 2].v1.billing.meters.retrieve(made.id).id == made.id
    until(lambda made=made: made.id in [one.id for one in clients[1 - number % 2].v1.billing.meters.list()], "seen")


@rounds
def test_two_creates_of_one_event_name_have_one_winner(clients, number):
    name = f"name_{number}"
    outcomes = race(*(lambda client=client: make_meter(client, name) for client in clients * 2))
    (winner,), losers = done(outcomes), refused(outcomes)
    assert {(one.http_status, one.param) for one in losers} == {(400, "event_name")}
    assert all(winner.id in one.user_message for one in losers)
    both_show(
        clients,
        lambda client: [one.id for one in client.v1.billing.meters.list() if one.event_name == name],
        [winner.id],
    )


@rounds
def test_two_creates_of_one_plan_id_have_one_winner(clients, number):
    product = clients[0].v1.products.create({"name": "P"}).id
    until(lambda: product in [one.id for one in clients[1].v1.products.list()], "the other gateway knows it")
    asked = {"id": f"plan-{number}", "product": product, "currency": "usd", "interval": "month"}
    outcomes = race(
        *(lambda c=client, n=n: c.v1.plans.create({**asked, "amount": n}) for n, client in enumerate(clients * 2))
    )
    (winner,), losers = done(outcomes), refused(outcomes)
    assert {one.code for one in losers} == {"resource_already_exists"}
    both_show(clients, lambda client: client.v1.plans.retrieve(f"plan-{number}").amount, winner.amount)


@rounds
def test_one_request_sent_to_both_makes_one_object(clients, number):
    options = {"idempotency_key": f"same-{number}"}
    outcomes = race(*(lambda c=client: make_meter(c, f"same_{number}", **options) for client in clients * 2))
    assert not refused(outcomes)
    assert len({one.id for one in outcomes}) == 1
    assert all(one.to_dict() == outcomes[0].to_dict() for one in outcomes)
    asked = {"product": {"name": f"Inline {number}"}, "currency": "usd", "interval": "day", "amount": 5}
    plans = race(
        *(lambda c=client: c.v1.plans.create(asked, {"idempotency_key": f"inline-{number}"}) for client in clients)
    )
    assert len({(plan.id, plan.product) for plan in plans}) == 1
    inline = f"Inline {number}"
    both_show(clients, lambda client: [one.name for one in client.v1.products.list()].count(inline), 1)


def test_updates_at_once_all_happen_one_after_the_other(clients):
    product = clients[0].v1.products.create({"name": "P"}).id
    until(lambda: product in [one.id for one in clients[1].v1.products.list()], "the other gateway knows it")
    acts = [
        lambda c=client, n=number: c.v1.products.update(product, {"metadata": {f"k{n}": "v"}})
        for number, client in enumerate(clients * 4)
    ]
    assert not refused(race(*acts))
    both_show(clients, lambda client: len(client.v1.products.retrieve(product).metadata.to_dict()), len(acts))


@rounds
def test_deactivating_reactivating_and_taking_the_name_leave_one_active_meter(clients, number):
    name = f"contested_{number}"
    meter = make_meter(clients[0], name).id
    clients[0].v1.billing.meters.deactivate(meter)
    until(lambda: clients[1].v1.billing.meters.retrieve(meter).status == "inactive", "the other gateway knows")
    outcomes = race(
        lambda: clients[0].v1.billing.meters.reactivate(meter),
        lambda: make_meter(clients[1], name),
    )
    (winner,) = done(outcomes)
    assert [one.http_status for one in refused(outcomes)] == [400]
    both_show(
        clients,
        lambda client: [
            one.id
            for one in client.v1.billing.meters.list({"limit": 100, "status": "active"})
            if one.event_name == name
        ],
        [winner.id],
    )


@rounds
def test_a_product_is_deleted_or_has_a_plan_never_both(clients, number):
    product = clients[0].v1.products.create({"name": f"Doomed {number}"}).id
    until(lambda: product in [one.id for one in clients[1].v1.products.list()], "the other gateway knows it")
    asked = {"product": product, "currency": "usd", "interval": "month", "amount": 1}
    outcomes = race(lambda: clients[0].v1.products.delete(product), lambda: clients[1].v1.plans.create(asked))
    (winner,) = done(outcomes)
    both_show(clients, lambda client: len(client.v1.plans.list({"product": product})), winner.object == "plan")


def test_bad_records_in_the_catalog_are_left_out_and_noted(home, clients):
    """Also by a gateway that starts with them in the log."""
    publisher = Publisher({"bootstrap.servers": home.settings.kafka})
    for value in (b"", b"nonsense", bytes.fromhex("c301") + bytes(30), None, b"\x00" * 5):
        publisher.publish(home.topics.catalog, b"x", value)
    publisher.flush(30)
    made = make_meter(clients[0], "after_nonsense")
    third = home.start()
    client = home.stripe_client(home.new_key(), third)
    assert client.v1.billing.meters.retrieve(made.id).event_name == "after_nonsense"
    assert third.log.count("is no catalog object and is left out") == 5
    third.stop()


def test_a_gateway_is_ready_only_when_it_knows_the_whole_catalog(home, clients, key):
    client = clients[0]
    product = client.v1.products.create({"name": "Many"}).id
    with ThreadPoolExecutor(8) as pool:
        asked = {"product": product, "currency": "usd", "interval": "day"}
        list(pool.map(lambda n: client.v1.plans.create({**asked, "amount": n, "id": f"many-{n}"}), range(300)))
    fourth = home.start()
    # The key is in the catalog, too: it is known at once.
    assert home.stripe_client(key, fourth).v1.plans.retrieve("many-299").amount == 299
    fourth.stop()


@pytest.mark.parametrize("delay_ms", [0, 4, 8])
def test_a_request_whose_gateway_was_killed_is_done_once_when_it_is_repeated_elsewhere(home, key, clients, delay_ms):
    """FAULTS A1 and A2, for the catalog: a plan with its product, several at once, the gateway gone in the middle."""
    victim = home.start()
    doomed = home.stripe_client(key, victim)
    names = [f"Killed {delay_ms} {number}" for number in range(6)]

    def make(client: stripe.StripeClient, name: str) -> Any:
        asked = {"product": {"name": name}, "currency": "usd", "interval": "year", "amount": 7}
        return client.v1.plans.create(asked, {"idempotency_key": name})

    def kill() -> None:
        time.sleep(delay_ms / 1_000)
        victim.kill()

    answered = done(race(kill, *(lambda name=name: make(doomed, name) for name in names)))
    made = {name: make(clients[0], name) for name in names}
    assert {one.id for one in answered if one is not None} <= {one.id for one in made.values()}
    assert len({one.id for one in made.values()}) == len({one.product for one in made.values()}) == len(names)
    for client in clients:
        until(lambda client=client: all(one.product in products(client) for one in made.values()), "both know them")
        assert sorted(name for name in products(client).values() if name in names) == sorted(names)
        for one in made.values():
            assert [plan.id for plan in client.v1.plans.list({"product": one.product})] == [one.id]


def products(client: stripe.StripeClient) -> dict[str, str]:
    return {one.id: one.name for one in client.v1.products.list({"limit": 100}).auto_paging_iter()}
