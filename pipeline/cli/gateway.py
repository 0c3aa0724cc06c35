"""The command ``gateway``."""

from __future__ import annotations

import typer

from pipeline import wiring


def gateway() -> None:
    """Run one gateway: the HTTP API, Stripe's shapes on Meterline.

    Listens on METERLINE_GATEWAY_LISTEN; the paths are listed in its
    /meterline/v1/openapi.json. Needs METERLINE_GATEWAY_SECRETS, the same on
    every gateway, and keys: `meterline keys create`. Stateless: start any
    number of them behind a load balancer that asks /health/ready. SIGTERM lets
    it finish what it has begun.

    \b
    Example:
      METERLINE_GATEWAY_LISTEN=0.0.0.0:8484 meterline gateway
    """
    raise typer.Exit(wiring.run_gateway(wiring.load_settings()))
