"""``meterline keys``: make, list, roll and revoke API keys. Every gateway hears of it within seconds."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pipeline import wiring
from pipeline.errors import MeterlineError, UsageError
from pipeline.settings import duration_ms

if TYPE_CHECKING:
    from pipeline.domain.catalog import ApiKey
    from pipeline.gateway.catalog import CatalogMemory

keys = typer.Typer(no_args_is_help=True, help="Make, list, roll and revoke API keys.")

T = TypeVar("T")


class Mode(enum.StrEnum):
    """What a key sees and makes."""

    TEST = "test"
    LIVE = "live"


class Scope(enum.StrEnum):
    """What a restricted key may do; tests hold this to ``gateway.keys.SCOPES``."""

    EVENTS_WRITE = "events:write"
    ADJUSTMENTS_WRITE = "adjustments:write"
    SUMMARIES_READ = "summaries:read"
    METERS_WRITE = "meters:write"
    CATALOG_WRITE = "catalog:write"


@keys.command()
def create(
    mode: Annotated[Mode, typer.Option(help="The mode of everything the key sees and makes.")] = Mode.TEST,
    name: Annotated[str, typer.Option(help="For people who look for the right one.")] = "",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Make a restricted key that may do this; several as several options.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(metavar="90d", help="Refuse the key after this time.")] = None,
) -> None:
    """Make an API key. It is shown this once.

    Standard output is the key alone, so that a script can take it; what to
    know about it goes to standard error. Only a keyed hash of it is kept:
    who loses the key makes another. Without --scope it is a secret key and
    may do everything in its mode.

    \b
    Examples:
      export STRIPE_API_KEY=$(meterline keys create)
      meterline keys create --mode live --scope events:write --name ingestion
    """
    from pipeline.gateway.keys import made_key

    settings = wiring.load_settings()
    secrets = wiring.gateway_secrets(settings)
    expires_at_ms = None if expires_in is None else _now_ms() + _time("--expires-in", expires_in)
    key, one = made_key(
        secrets,
        _now_ms(),
        livemode=mode is Mode.LIVE,
        name=name,
        scopes=None if not scope else [one.value for one in scope],
        expires_at_ms=expires_at_ms,
    )
    _with_catalog(settings, lambda catalog: catalog.write(one, by=wiring.operator(settings)))
    _explain(f"{one.id}: {_described(one)}. This is the only time that the key is shown.")
    typer.echo(key)


@keys.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List the API keys: never the keys themselves, but how each begins and ends.

    \b
    Example:
      meterline keys list
    """
    from pipeline.gateway.keys import stands

    settings = wiring.load_settings()

    async def all_keys(catalog: CatalogMemory) -> list[ApiKey]:
        from pipeline.domain.catalog import ApiKey

        return sorted(catalog.all(ApiKey, True) + catalog.all(ApiKey, False), key=lambda one: one.created_ms)

    for one in _with_catalog(settings, all_keys):
        state = "stands" if stands(one, _now_ms()) else "revoked" if one.revoked_at_ms is not None else "expired"
        if as_json:
            typer.echo(json.dumps(_as_object(one, state), ensure_ascii=False))
        else:
            typer.echo(f"{one.id}  {one.hint:<14}  {state:<8}{_described(one)}")


@keys.command()
def roll(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `meterline keys list` shows it.")],
    overlap: Annotated[str, typer.Option(metavar="1h", help="How long the old key stands beside the new one.")] = "1h",
) -> None:
    """Make a new key in place of another. Both stand for a while.

    The new key has the old one's mode, scopes and name, and is shown this
    once, alone on standard output. The old one is refused from then on that
    --overlap says; 0s ends it at once.

    \b
    Example:
      meterline keys roll key_4fK2mQ9xTb0a --overlap 24h
    """
    from pipeline.gateway.keys import rolled_key

    settings = wiring.load_settings()
    secrets = wiring.gateway_secrets(settings)
    overlap_ms = _time("--overlap", overlap)

    async def act(catalog: CatalogMemory) -> tuple[str, ApiKey, ApiKey]:
        key, new, old = rolled_key(secrets, _now_ms(), _standing(catalog, key_id), overlap_ms)
        await catalog.write(new, old, by=wiring.operator(settings))
        return key, new, old

    key, new, old = _with_catalog(settings, act)
    _explain(f"{new.id}: {_described(new)}, in place of {old.id}, which {_ending(old)}.")
    typer.echo(key)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `meterline keys list` shows it.")],
) -> None:
    """Refuse a key from now on, and every session that was made with it.

    Returns when Kafka has it; all gateways follow within five seconds. There
    is no way back: make a new key.

    \b
    Example:
      meterline keys revoke key_4fK2mQ9xTb0a
    """
    from pipeline.gateway.keys import revoked_key

    settings = wiring.load_settings()

    async def act(catalog: CatalogMemory) -> None:
        await catalog.write(revoked_key(_now_ms(), _standing(catalog, key_id)), by=wiring.operator(settings))

    _with_catalog(settings, act)
    typer.echo(f"{key_id} is revoked")


def _with_catalog(settings: Any, act: Callable[[CatalogMemory], Awaitable[T]]) -> T:
    """What ``act`` returns, with a catalog that was read to its end."""
    import asyncio

    from pipeline.gateway.catalog import Conflict

    async def session() -> T:
        async with wiring.catalog_session(settings) as catalog:
            return await act(catalog)

    try:
        return asyncio.run(session())
    except Conflict as error:
        raise MeterlineError("somebody else changed this key at the same moment: try again") from error


def _standing(catalog: CatalogMemory, key_id: str) -> ApiKey:
    found = catalog.api_key(True, key_id) or catalog.api_key(False, key_id)
    if found is None:
        raise UsageError(f"there is no key {key_id!r:.60}: `meterline keys list` shows them")
    if found.revoked_at_ms is not None:
        raise UsageError(f"{found.id} is revoked already")
    return found


def _described(one: ApiKey) -> str:
    mode = "live" if one.livemode else "test"
    may = f"restricted to {', '.join(one.scopes) or 'nothing'}" if one.kind == "restricted" else "secret"
    return ", ".join(part for part in (mode, may, one.name, _ending(one)) if part)


def _ending(one: ApiKey) -> str:
    from pipeline.domain.times import timestamp_text

    return "" if one.expires_at_ms is None else f"expires at {timestamp_text(one.expires_at_ms // 1000 * 1000)}"


def _as_object(one: ApiKey, state: str) -> dict[str, Any]:
    return {
        "id": one.id,
        "hint": one.hint,
        "state": state,
        "livemode": one.livemode,
        "kind": one.kind,
        "scopes": list(one.scopes),
        "name": one.name,
        "created": one.created_ms,
        "expires_at": one.expires_at_ms,
        "revoked_at": one.revoked_at_ms,
        "rolled_from": one.rolled_from,
    }


def _explain(text: str) -> None:
    typer.echo(text, err=True)


def _time(option: str, text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise UsageError(f"{option}: expected {error}, not {text!r:.40}") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
