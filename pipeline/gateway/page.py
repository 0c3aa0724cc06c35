"""The document as one page for people: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from pipeline.gateway.document import fields_of, permission
from pipeline.gateway.operations import Operation
from pipeline.gateway.parameters import Field

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }
code, summary { font-family: ui-monospace, monospace; font-size: 0.92em; }
section { border-top: 1px solid var(--line); }
details { border-bottom: 1px solid var(--line); padding: 0.4rem 0; }
summary { cursor: pointer; }
summary b { display: inline-block; width: 4.5em; }
summary span { color: var(--quiet); font-family: system-ui, sans-serif; margin-left: 1em; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0; }
td { border-top: 1px solid var(--line); padding: 0.25rem 0.75rem 0.25rem 0; vertical-align: top; }
td:nth-child(2) { color: var(--quiet); white-space: nowrap; }
"""

_BEFORE = """
<h1>Meterline</h1>
<p>Usage metering that can be proven, with Stripe's API for meters, events, plans and products. Point an official Stripe
SDK at this address, or write requests by hand:</p>
<pre>export STRIPE_API_KEY=$(meterline keys create)
curl -u $STRIPE_API_KEY: THIS_ADDRESS/v1/billing/meters \\
  -d display_name="API calls" -d event_name=api_calls -d "default_aggregation[formula]=sum"</pre>
<p>Success means that Kafka has acknowledged every record of the request. The whole description for programs is
<a href="/meterline/v1/openapi.json">openapi.json</a>; <a href="/health/ready">health/ready</a> says whether this
gateway can serve.</p>
"""

_SECTIONS = {"v1": "Version 1: forms in, JSON out", "v2": "Version 2: JSON both ways", "meterline": "Meterline's own"}

CONTENT_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(operations: Iterable[Operation]) -> str:
    """HTML."""
    rows = list(operations)
    sections = "".join(
        f"<h2>{title}</h2>\n<section>\n{''.join(_row(one) for one in rows if one.face == face)}</section>\n"
        for face, title in _SECTIONS.items()
    )
    head = f'<meta charset="utf-8">\n<title>Meterline</title>\n<style>{_STYLE}</style>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = f"<body>{_BEFORE}{sections}</body>"
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n{view}\n</head>\n{body}\n</html>\n'


def _row(operation: Operation) -> str:
    parameters = "".join(_parameter(name, one, operation.face) for name, one in fields_of(operation).items())
    table = f"<table>{parameters}</table>" if parameters else ""
    head = f"<b>{operation.method}</b>{escape(operation.path)}<span>{escape(operation.summary)}</span>"
    return f"<details>\n<summary>{head}</summary>\n<p>{escape(permission(operation))}</p>\n{table}\n</details>\n"


def _parameter(name: str, one: Field, face: str) -> str:
    needed = ", required" if one.required else ""
    kind = _kind(one.kind.schema(face)) + needed
    return f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(one.description)}</td></tr>"


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'])}"
    if schema["type"] == "object" and "properties" in schema:
        return "{" + ", ".join(schema["properties"]) + "}"
    return str(schema.get("format", {"object": "map"}.get(schema["type"], schema["type"])))
