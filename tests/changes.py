"""Logs of changes as two gateways and the command line write them, and what ``meterline changes`` says of them."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import stripe
from typer.testing import CliRunner

from pipeline import MeterlineProducer, cli, wiring
from pipeline.domain.generations import BUILDING, LIVE
from pipeline.errors import Refusal
from pipeline.gateway.credentials import face_of
from pipeline.kafka.reading import Record, read
from tests.conftest import Stack
from tests.gateways import GatewayHome

CATALOG_LOG = "billing-catalog/0"
SUM = {"formula": "sum"}
ROUNDS = 6


class Said(NamedTuple):
    """What the command answered."""

    code: int
    output: str
    report: dict[str, Any]

    @property
    def findings(self) -> list[dict[str, Any]]:
        return self.report["findings"]

    def head(self, log: str = CATALOG_LOG) -> str:
        return next(one["head"] for one in self.report["logs"] if one["log"] == log)

    def of(self, log: str = CATALOG_LOG) -> dict[str, Any]:
        return next(one for one in self.report["logs"] if one["log"] == log)


def meterline(home: GatewayHome, *arguments: str, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments), env={**home.environ, **environ})
    return result.exit_code, result.output


def verified(home: GatewayHome, namespace: str = "", *arguments: str) -> Said:
    mine = {"METERLINE_NAMESPACE": namespace} if namespace else {}
    code, output = meterline(home, "changes", "--json", *arguments, **mine)
    return Said(code, output, json.loads(output.splitlines()[-1]))


class World(NamedTuple):
    """What stands in the logs, and who wrote it."""

    home: GatewayHome
    api_key: str
    made: str
    """A key that was made, rolled and revoked."""
    new: str
    """The key in its place."""
    contested: list[str]
    """Ids of the meters that won a name."""
    log: list[Record]
    said: Said


@contextlib.contextmanager
def changed_world(stack: Stack, directory: Path) -> Iterator[World]:
    """Two gateways that are asked for the same at once, keys that come and go, steps of generations, adjustments."""
    with GatewayHome(stack, f"t{secrets.token_hex(6)}", directory) as home:
        home.start()
        home.start()
        key = home.new_key()
        clients = [home.stripe_client(key, gateway) for gateway in home._gateways]
        made = id_of(meterline(home, "keys", "create", "--name", "rolled")[1])
        contested = []
        for number in range(ROUNDS):
            contested.append(raced(clients, f"name_{number}"))
            clients[number % 2].v1.products.create({"name": f"P {number}"})
        new = id_of(meterline(home, "keys", "roll", made, "--overlap", "0s")[1])
        assert meterline(home, "keys", "revoke", made)[0] == 0
        meterline(home, "keys", "create", "--name", "follows the revocation")
        raced(clients, "after_all")
        steps_of_generations(home)
        with MeterlineProducer(stack.kafka, namespace=home.settings.namespace) as producer:
            for number in range(5):
                producer.adjust(event_name="calls", identifier=f"e{number}", adjustment_id=f"a{number}")
        log = list(read(wiring.quiet_kafka(home.settings), home.topics.catalog, "beginning"))
        holder = face_of(key)
        assert holder is not None
        yield World(home, holder.id, made, new, contested, log, verified(home))


def id_of(said: str) -> str:
    """The id of the key that the last line is."""
    face = face_of(said.splitlines()[-1])
    assert face is not None, said
    return face.id


def raced(clients: list[stripe.StripeClient], name: str) -> str:
    """The meter that won, of four that both gateways were asked for at once."""

    def make(client: stripe.StripeClient) -> str:
        asked = {"display_name": "M", "event_name": name, "default_aggregation": SUM}
        try:
            return client.v1.billing.meters.create(asked).id
        except stripe.InvalidRequestError:
            return ""

    with ThreadPoolExecutor(4) as pool:
        (winner,) = filter(None, pool.map(make, clients * 2))
    return winner


def steps_of_generations(home: GatewayHome) -> None:
    ledger = wiring.ledger(home.settings)
    ledger.append(1, LIVE, 1, 2, "fold-1")
    ledger.append(2, BUILDING, 1, 2, "fold-1")
    ledger.append(2, LIVE, 1, 2, "fold-1")
    with pytest.raises(Refusal):
        ledger.append(2, BUILDING, 1, 2, "fold-1")


def entity(kind: str, id_: str) -> str:
    return f"{kind} {id_} (test)"
