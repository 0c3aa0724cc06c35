"""Answers held to Stripe's own OpenAPI document: ``tests/conformance/stripe-openapi-subset.json``.

``check_answer`` looks at one; ``Client`` is an HTTP client that looks at each one that it hands out, and
``CheckingClient`` does the same beneath the official SDK.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import jsonschema
import requests
import stripe

SUBSET = Path(__file__).parent / "conformance" / "stripe-openapi-subset.json"
METHODS = ("get", "post", "delete")
ANSWER_WITHIN_S = 30.0

Spec = Mapping[str, Any]


@functools.cache
def stripe_document() -> dict[str, Any]:
    return json.loads(SUBSET.read_text())


def operation_at(document: Spec, method: str, path: str) -> tuple[str, Spec] | None:
    """The template and the operation that a request meets; None when the document has none."""
    # Fixed words before names: /v1/products/search is no product's id.
    for template in sorted(document["paths"], key=lambda one: [part.startswith("{") for part in one.split("/")]):
        pattern = re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            found = document["paths"][template].get(method.lower())
            return (template, found) if found else None
    return None


def json_schema(document: Spec, schema: Any) -> Any:
    """An OpenAPI 3.0 schema as JSON schema: ``nullable``, and alternatives of which several may fit."""
    if isinstance(schema, list):
        return [json_schema(document, one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return json_schema(document, _resolved(document, schema["$ref"]))
    made = {
        ("anyOf" if name == "oneOf" else name): json_schema(document, part)
        for name, part in schema.items()
        if name not in ("nullable", "description", "example", "x-expansionResources")
    }
    return {"anyOf": [{"type": "null"}, made]} if schema.get("nullable") else made


def _resolved(document: Spec, reference: str) -> Any:
    found: Any = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


@functools.cache
def _validator(document_id: int, method: str, template: str, status: str) -> jsonschema.protocols.Validator:
    document = _DOCUMENTS[document_id]
    answers = document["paths"][template][method]["responses"]
    answer = answers.get(status) or answers["default"]
    schema = json_schema(document, next(iter(answer["content"].values()))["schema"])
    return jsonschema.Draft202012Validator(schema)


_DOCUMENTS: dict[int, Spec] = {}


def check_answer(method: str, url: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
    """Raises AssertionError unless the answer is one that Stripe's document allows; on its paths, and in general."""
    said = f"{method} {url}: {status} {content[:2000]!r}"
    assert re.fullmatch(r"req_\w+", headers.get("request-id", "")), f"no Request-Id: {said}"
    assert status < 500 or status == 503, said
    if method == "HEAD" or not headers.get("content-type", "").startswith("application/json"):
        return
    body = json.loads(content)
    path = urlsplit(url).path
    document = stripe_document()
    found = operation_at(document, method, path)
    if found is None:
        if status >= 400 and not path.startswith("/health/"):
            assert isinstance(body["error"]["message"], str), said
        return
    _DOCUMENTS[id(document)] = document
    faults = list(_validator(id(document), method.lower(), found[0], str(status)).iter_errors(body))
    assert not faults, f"{said}\n" + "\n".join(f"{fault.json_path}: {fault.message}" for fault in faults)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``body`` has numbers with all their digits, as Decimal; None where it is not JSON."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    body: Any

    @property
    def error(self) -> dict[str, Any]:
        return self.body["error"]


class Client:
    """HTTP with a key, each answer checked. Use it in a ``with``."""

    def __init__(self, base_url: str, key: str | None = None) -> None:
        self._base_url = base_url
        self._key = key
        self._session = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def get(self, path: str, **query: Any) -> Answer:
        return self.ask("GET", path, params=query)

    def delete(self, path: str, **query: Any) -> Answer:
        return self.ask("DELETE", path, params=query)

    def form(self, path: str, /, headers: Mapping[str, str] | None = None, **fields: str) -> Answer:
        """POST of a form; brackets in names are written as they are: ``**{"payload[value]": "1"}``."""
        return self.ask("POST", path, data=fields, headers=headers)

    def json(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """POST of JSON; bytes are sent as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data=content, headers={"Content-Type": "application/json", **(headers or {})})

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **rest: Any) -> Answer:
        """Anything that ``requests`` can send."""
        auth = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        url = self._base_url + path
        got = self._session.request(
            method, url, headers={**auth, **(headers or {})}, timeout=ANSWER_WITHIN_S, allow_redirects=False, **rest
        )
        check_answer(method, url, got.status_code, got.headers, got.content)
        is_json = method != "HEAD" and got.headers.get("content-type", "").startswith("application/json")
        body = json.loads(got.content, parse_float=Decimal) if is_json else None
        return Answer(got.status_code, got.headers, got.content, body)


class CheckingClient(stripe.RequestsClient):
    """The SDK's own HTTP client, each answer checked."""

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> tuple[bytes, int, Any]:
        content, status, got = super().request(method, url, headers, post_data)
        check_answer(method, url, status, got, content)
        return content, status, got
