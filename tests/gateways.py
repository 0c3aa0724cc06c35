"""Gateway processes of a test's own namespace, keys for them, and clients that hold every answer to Stripe's document.

with GatewayHome(stack, namespace, tmp_path) as home:
    gateway = home.start()
    client = home.stripe_client(home.new_key())
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import stripe

from pipeline import wiring
from pipeline.clickhouse.migrations import migrate
from pipeline.gateway.keys import made_key
from pipeline.kafka import admin
from pipeline.settings import Settings
from tests.answers import CheckingClient, Client
from tests.conftest import Stack

PATIENCE_S = 180.0
SECRETS = "first:" + "0123456789abcdef" * 2
_LISTENS = re.compile(r"listening on (?P<url>http://\S+), metrics on port (?P<metrics>\d+)")


def until(holds: object, what: str) -> None:
    """Wait until a callable says yes."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.03)


class GatewayProcess:
    """One ``meterline gateway`` on ports of its own."""

    def __init__(self, environ: dict[str, str], log: Path, prefix: tuple[str, ...] = ()) -> None:
        """``prefix``: a command to run it under, such as prlimit."""
        self._log = log
        self._begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            argv = [*prefix, sys.executable, "-m", "pipeline.cli", "gateway"]
            self.run = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        until(lambda: _LISTENS.search(self.log) or self.run.poll() is not None, "the gateway listens")
        found = _LISTENS.search(self.log)
        assert found, self.log
        self.url = found["url"]
        self.metrics_url = f"http://127.0.0.1:{found['metrics']}/metrics"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self._log.read_bytes()[self._begins :].decode(errors="replace")

    def ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False

    def await_ready(self) -> Self:
        until(lambda: self.ready() or self.run.poll() is not None, "the gateway is ready")
        assert self.run.poll() is None, self.log
        return self

    def metrics(self) -> str:
        with urlopen(self.metrics_url, timeout=5) as answer:
            return answer.read().decode()

    def kill(self) -> None:
        """As a power cut would."""
        self.run.kill()
        assert self.run.wait(PATIENCE_S) == -signal.SIGKILL, self.log

    def stop(self) -> float:
        """Ask it to go; how many seconds that took."""
        began = time.monotonic()
        self.run.terminate()
        assert self.run.wait(PATIENCE_S) == 0, self.log
        return time.monotonic() - began

    def freeze(self) -> None:
        self.run.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.run.send_signal(signal.SIGCONT)

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.run.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def end(self) -> None:
        if self.run.poll() is None:
            self.thaw()
            self.run.kill()
            self.run.wait()


class GatewayHome:
    """One namespace: its topics, its gateways, its keys. At the end of its ``with`` every process is gone."""

    def __init__(self, stack: Stack, namespace: str, home: Path, *, partitions: int = 2, **environ: str) -> None:
        """``environ``: settings by the second part of their variable, as ``GATEWAY_REQUESTS="16"``."""
        self.home = home
        home.mkdir(exist_ok=True)
        mine = {
            "METERLINE_HOME": str(home / "no-laptop-stack"),
            "METERLINE_KAFKA": stack.kafka,
            "METERLINE_CLICKHOUSE": stack.clickhouse,
            "METERLINE_NAMESPACE": namespace,
            "METERLINE_PARTITIONS": str(partitions),
            "METERLINE_STATE": str(home / "state"),
            "METERLINE_GATEWAY_LISTEN": "127.0.0.1:0",
            "METERLINE_GATEWAY_METRICS": "127.0.0.1:0",
            "METERLINE_GATEWAY_SECRETS": SECRETS,
            **{f"METERLINE_{name}": text for name, text in environ.items()},
        }
        self.settings = Settings.load(mine)
        self.topics = wiring.topics(self.settings)
        self.environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")} | mine
        self._gateways: list[GatewayProcess] = []
        self._clients: list[stripe.RequestsClient] = []
        admin.create(wiring.quiet_kafka(self.settings), namespace, partitions, 1)

    def start(self, prefix: tuple[str, ...] = (), *, ready: bool = True, **environ: str) -> GatewayProcess:
        """One more gateway, ready unless said otherwise."""
        mine = self.environ | {f"METERLINE_{name}": text for name, text in environ.items()}
        gateway = GatewayProcess(mine, self.home / f"gateway-{len(self._gateways)}.log", prefix)
        self._gateways.append(gateway)
        return gateway.await_ready() if ready else gateway

    def migrate(self) -> None:
        """Make the namespace's tables, for operations that ask ClickHouse."""
        list(migrate(wiring.clickhouse(self.settings)))

    def new_key(self, *, livemode: bool = False, scopes: Iterable[str] | None = None) -> str:
        """An API key, as ``meterline keys create`` makes one, that every gateway knows when this returns."""
        secrets = wiring.gateway_secrets(self.settings)
        key, one = made_key(secrets, time.time_ns() // 1_000_000, livemode=livemode, scopes=scopes)

        async def write() -> None:
            async with wiring.catalog_session(self.settings) as catalog:
                await catalog.write(one)

        asyncio.run(write())
        for gateway in self._gateways:
            if gateway.run.poll() is None:
                until(lambda gateway=gateway: _knows(gateway, key), "the gateway knows the key")
        return key

    def client(self, key: str | None = None, gateway: GatewayProcess | None = None) -> Client:
        """HTTP, each answer checked. Use it in a ``with``."""
        return Client((gateway or self._gateways[0]).url, key)

    def stripe_client(
        self, key: str, gateway: GatewayProcess | None = None, *, max_network_retries: int = 0
    ) -> stripe.StripeClient:
        """The official SDK, pointed at a gateway, each answer checked."""
        url = (gateway or self._gateways[0]).url
        client = CheckingClient()
        self._clients.append(client)
        return stripe.StripeClient(
            key,
            base_addresses={"api": url, "meter_events": url},
            max_network_retries=max_network_retries,
            http_client=client,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        for gateway in self._gateways:
            gateway.end()


def _knows(gateway: GatewayProcess, key: str) -> bool:
    asked = Request(f"{gateway.url}/v1/billing/meters", headers={"Authorization": f"Bearer {key}"})
    try:
        with urlopen(asked, timeout=5):
            return True
    except HTTPError as error:
        with error:
            return error.code not in (401, 503)
