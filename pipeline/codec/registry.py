"""A client of Confluent's schema registry: ids to listed schemas, and back. Standard library only.

Answers are kept: an id never changes its schema. An id that the registry does not know is asked for again only after
a while, and a registry that does not answer is left alone for a moment, so that a flood of bad records does not become
a flood of requests.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, to_parsing_canonical_form

from pipeline.codec.evolution import meanings
from pipeline.codec.schemas import SCHEMAS, SchemaVersion, newest, versions
from pipeline.errors import Refusal, Unavailable

TIMEOUT_S = 5.0
UNKNOWN_FOR_S = 60.0
"""How long an id counts as unknown before it is asked for again."""
AWAY_FOR_S = 1.0
"""How long a registry that did not answer is not asked again."""
UNKNOWN_IDS_MAX = 10_000
_ANSWER_BYTES_MAX = 1_000_000
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"

log = logging.getLogger(__name__)


class SchemaRegistry:
    """Implements ``framing.Registry`` over HTTP. Subjects are full record names (RecordNameStrategy).

    ``url`` may carry ``user:password@`` for basic authentication.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self._headers = {"Accept": _CONTENT_TYPE, "Content-Type": _CONTENT_TYPE}
        if parts.username:
            credentials = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
        self._lock = threading.Lock()
        self._schemas: dict[int, SchemaVersion] = {}
        self._unknown: dict[int, float] = {}
        self._ids: dict[bytes, int] = {}
        self._away_until = 0.0

    def schema_of(self, schema_id: int) -> SchemaVersion | None:
        """The listed version with this id; None if the registry has none, or a schema that is not listed."""
        with self._lock:
            if schema_id in self._schemas:
                return self._schemas[schema_id]
            if self._unknown.get(schema_id, 0.0) > time.monotonic():
                return None
            answer = self._ask("GET", f"/schemas/ids/{schema_id}")
            schema = None if answer is None else _listed(schema_id, answer)
            if schema is not None:
                self._schemas[schema_id] = schema
                return schema
            if len(self._unknown) >= UNKNOWN_IDS_MAX:
                self._unknown.clear()
            self._unknown[schema_id] = time.monotonic() + UNKNOWN_FOR_S
            return None

    def id_of(self, schema: SchemaVersion) -> int:
        """The id under which a version is registered."""
        with self._lock:
            if schema.fingerprint not in self._ids:
                answer = self._ask("POST", f"/subjects/{_quoted(schema.subject)}", _request_body(schema))
                if answer is None:
                    raise Refusal(
                        f"the schema registry at {self._url} has no {schema.subject} as in v{schema.version}.avsc; "
                        "register it with: meterline topics create"
                    )
                self._ids[schema.fingerprint] = int(answer["id"])
            return self._ids[schema.fingerprint]

    def register(self, name: str) -> int:
        """Register every listed version of a record under its full name, oldest first; returns the newest one's id.

        Repeating it changes nothing. Raises Refusal if the registry finds a version incompatible.
        """
        schema_id = 0
        for schema in versions(name):
            with self._lock:
                answer = self._ask("POST", f"/subjects/{_quoted(schema.subject)}/versions", _request_body(schema))
            if answer is None:
                raise Refusal(f"the schema registry at {self._url} cannot register {schema.subject}")
            schema_id = int(answer["id"])
        return schema_id

    def register_all(self) -> list[str]:
        """Register every listed schema; returns their subjects."""
        for name in SCHEMAS:
            self.register(name)
        return [newest(name).subject for name in SCHEMAS]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The registry's answer; None for a 404."""
        if time.monotonic() < self._away_until:
            raise Unavailable(f"the schema registry at {self._url} did not answer a moment ago", AWAY_FOR_S)
        request = urllib.request.Request(self._url + path, body, self._headers, method=method)  # noqa: S310  # settings allow http and https only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  # as above
                return json.loads(answer.read(_ANSWER_BYTES_MAX))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            if error.code in (409, 422):
                raise Refusal(f"the schema registry at {self._url} refuses {path}: HTTP {error.code}") from error
            raise self._away(f"answered HTTP {error.code}") from error
        except (OSError, ValueError) as error:
            raise self._away(f"did not answer: {error}") from error

    def _away(self, what: str) -> Unavailable:
        self._away_until = time.monotonic() + AWAY_FOR_S
        return Unavailable(f"the schema registry at {self._url} {what}", AWAY_FOR_S)


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")


def _request_body(schema: SchemaVersion) -> bytes:
    return json.dumps({"schema": json.dumps(schema.document), "schemaType": "AVRO"}).encode()


def _listed(schema_id: int, answer: Any) -> SchemaVersion | None:
    """The listed version whose canonical form and logical types a registry's schema has; others are none of ours.

    A decimal of another scale, or a timestamp of another unit, is the same bytes and another number.
    """
    if answer.get("schemaType", "AVRO") != "AVRO":
        return None
    try:
        document = json.loads(answer["schema"])
        canonical = to_parsing_canonical_form(document)
        candidates = versions(document["name"].rpartition(".")[2])
    except (ValueError, KeyError, TypeError, AttributeError, SchemaParseException, UnknownType):
        return None
    schema = next((version for version in candidates if version.canonical == canonical), None)
    if schema is None:
        return None
    theirs, ours = meanings(document), meanings(schema.document)
    if theirs == ours:
        return schema
    log.warning(
        "the schema with id %d is %s, but its values mean something else: records that name it are not read."
        " It has the logical types %s, and v%d.avsc %s",
        *(schema_id, schema.subject, dict(theirs), schema.version, dict(ours)),
    )
    return None
