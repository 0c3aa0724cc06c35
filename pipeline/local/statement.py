"""What an SQL text asks for, as far as the endpoint must know before the engine sees it. Pure functions.

The engine's own parser decides whether a statement reads or writes (``Engine.run``) and its access control refuses
what reaches outside (infra/chdb/users.xml). What is left for here: where the rows of an INSERT begin in a request's
body, which format a statement asks for, and the few functions that chDB's access control lets through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST_STATEMENT = 1 << 20
"""Bytes of SQL, the rows of an INSERT not counted."""


class SqlError(Exception):
    """A statement failed. ``code`` is ClickHouse's, ``str()`` its text without the leading code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


# ClickHouse's codes for the errors that the endpoint raises itself.
NOT_IMPLEMENTED, SYNTAX_ERROR, UNKNOWN_COMPRESSION, UNKNOWN_SETTING, READONLY = 48, 62, 89, 115, 164
TOO_MANY_QUERIES, CANNOT_DECOMPRESS = 202, 271
ACCESS_DENIED, QUERY_IS_TOO_LARGE, STD_EXCEPTION = 497, 552, 1001

# Latin-1 text in, so that offsets are bytes; blanks and curly quotes are those that ClickHouse's lexer takes, as UTF-8.
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\v\f\r]+ | \xc2[\x85\xa0] | \xe1\xa0\x8e | \xe2\x80[\x80-\x8d\xa8\xa9\xaf] | \xe2\x81[\x9f\xa0]
          | \xe3\x80\x80 | \xef\xbb\xbf | --[^\n]* | \#[\ !][^\n]* | /\*.*?(?:\*/|\Z))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>'(?:[^'\\]|\\.|'')*(?:'|\Z) | `(?:[^`\\]|\\.|``)*(?:`|\Z) | "(?:[^"\\]|\\.|"")*(?:"|\Z)
          | \xe2\x80\x98.*?(?:\xe2\x80\x99|\Z) | \xe2\x80\x9c.*?(?:\xe2\x80\x9d|\Z)
          | \$(?P<tag>[A-Za-z0-9_]*)\$.*?(?:\$(?P=tag)\$|\Z))
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A word in upper case, one other character, or ``'`` for anything quoted; where it begins and ends."""

    text: str
    start: int
    end: int
    depth: int
    """How many brackets are open."""


def first_of(sql: str) -> str:
    """The text of a statement's first token; empty when there is none."""
    return next((token.text for token in tokens(sql.encode().decode("latin-1"))), "")


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a statement whose bytes are read as Latin-1, without blanks and comments."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup if match.lastgroup != "tag" else "quoted"
        if kind == "blank":
            continue
        text = match[0].upper() if kind == "word" else "'" if kind == "quoted" else match[0]
        if text in (")", "]", "}"):
            depth = max(0, depth - 1)
        yield Token(text, match.start(), match.end(), depth)
        if text in ("(", "[", "{"):
            depth += 1


class RowsAt(NamedTuple):
    """An INSERT whose rows follow its text: the statement without its FORMAT clause, the format, the rows' offset."""

    statement: str
    format: str
    offset: int


def rows_of_insert(head: bytes) -> RowsAt | None:
    """Find ``INSERT ... FORMAT name <rows>`` or VALUES at the start of a body; None for any other statement."""
    sql = head.decode("latin-1")
    found = tokens(sql)
    if next(found, Token("", 0, 0, 0)).text != "INSERT":
        return None
    clause: Token | None = None
    for token in found:
        if clause is not None and token.text[0] not in "(.,=":
            after = re.compile(r"[ \t\f]*(?:\r?\n)?").match(sql, token.end)
            assert after is not None
            return RowsAt(head[: clause.start].decode(errors="replace"), sql[token.start : token.end], after.end())
        if token.depth == 0 and token.text == "VALUES":
            return RowsAt(head[: token.start].decode(errors="replace"), "Values", token.end)
        if token.depth == 0 and token.text in ("SELECT", "WITH", "INFILE"):
            return None
        clause = token if token.depth == 0 and token.text == "FORMAT" else None
    return None


_NAMES_FORMAT = re.compile(r"\bformat\b", re.IGNORECASE)


class Parts(NamedTuple):
    """A query in three: up to its FORMAT clause, the format it names (or None), and what follows (SETTINGS)."""

    body: str
    format: str | None
    tail: str


def parts(sql: str) -> Parts:
    """Take a query apart at its own FORMAT clause: FORMAT name [SETTINGS ...] [;] at the very end."""
    data = sql.encode()
    found = list(tokens(data.decode("latin-1")))
    while found and found[-1].text == ";":
        found.pop()
    end = Token(";", len(data), len(data), 0)
    for token, name, beyond in zip(found, found[1:], [*found[2:], end], strict=False):
        if token.text == "FORMAT" and token.depth == 0 and beyond.text in (";", "SETTINGS"):
            tail = data[name.end : found[-1].end]
            return Parts(data[: token.start].decode(), data[name.start : name.end].decode(), tail.decode())
    return Parts(data[: found[-1].end].decode() if found else "", None, "")


def format_of(sql: str) -> str | None:
    """The format that a query names, or None."""
    return parts(sql).format if _NAMES_FORMAT.search(sql) else None


def with_format(sql: str, name: str) -> str:
    """The same query in another format."""
    body, _, tail = parts(sql)
    return f"{body}\nFORMAT {name}{tail}"


def into_file(sql: str, name: str, path: str) -> str:
    """The same query in a format, its result written to a file by the engine. ``path`` has no quotes in it."""
    body, _, tail = parts(sql)
    return f"{body}\nINTO OUTFILE '{path}' FORMAT {name}{tail}"


# Functions and table functions through which a statement reaches the host, the network or this very process, and
# which chDB lets the restricted user call all the same (`file` as a scalar, `python`), or which it would refuse
# only by luck of their arguments. Names compare without case.
REACHING_OUT = frozenset(
    """arrowstream azureblobstorage azureblobstoragecluster bigquery catboostevaluate cluster clusterallreplicas cosn
    deltalake deltalakeazure deltalakeazurecluster deltalakecluster deltalakelocal deltalakes3 deltalakes3cluster eval
    executable file filecluster filesystem gcs hdfs hdfscluster hudi hudicluster iceberg icebergazure
    icebergazurecluster icebergcluster iceberghdfs iceberghdfscluster iceberglocal iceberglocalcluster icebergs3
    icebergs3cluster jdbc mongodb mysql odbc oss paimon paimonazure paimonazurecluster paimoncluster paimonhdfs
    paimonhdfscluster paimonlocal paimons3 paimons3cluster postgresql prometheusquery prometheusqueryrange python redis
    remote remotesecure s3 s3cluster sqlite url urlcluster ytsaurus aiclassify aiembed aiextract aifilter aigenerate
    airedact aisimilarity aitranslate""".split()  # noqa: SIM905
)
# A backslash could spell any of these names inside a quoted identifier.
_SUSPICIOUS = re.compile(r"\\|\b(?:" + "|".join(sorted(REACHING_OUT)) + r")\b", re.IGNORECASE)
_FUNCTION = re.compile(r"^ *Function (\w+)", re.MULTILINE)
_INTO_VALUES = re.compile(r"\bvalues\b", re.IGNORECASE)


def suspicious(sql: str) -> bool:
    """Whether a statement could call one of REACHING_OUT; its syntax tree then says whether it does."""
    return _SUSPICIOUS.search(sql) is not None


def functions_in(tree: str) -> set[str]:
    """The functions, table functions and engines, in lower case, that ClickHouse's ``EXPLAIN AST`` shows."""
    return {name.lower() for name in _FUNCTION.findall(tree)}


def refusal(sql: str) -> str | None:
    """Why a statement that writes is refused for its text alone, or None."""
    words = [token.text for token in tokens(sql.encode().decode("latin-1")) if token.text != "'"]
    if words[:1] == ["INSERT"]:
        head = words[: words.index("VALUES")] if "VALUES" in words else words
        if "INFILE" in head:
            return "INSERT FROM INFILE would read the host's files"
    if words[:2] == ["CREATE", "DATABASE"] and "SETTINGS" in words:
        return "CREATE DATABASE with SETTINGS could put a database outside its directory"
    return None


def has_values(sql: str) -> bool:
    """Whether rows are written as VALUES, which no syntax tree shows."""
    return _INTO_VALUES.search(sql) is not None
