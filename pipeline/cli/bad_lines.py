"""What is said about lines that cannot be used: the first ones to the person, all of them to a file if asked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import typer

from pipeline.cli.lines import BadLine
from pipeline.errors import UsageError

SHOWN_MAX = 20
"""Bad lines shown on the error stream; the rest is only counted, or stands in the rejects file."""


class BadLines:
    """Counts bad lines by reason, and writes them to ``path`` as JSON lines: line, reason, message, text."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            try:
                self._file = self.path.open("w", encoding="utf-8")
            except OSError as error:
                raise UsageError(f"--rejects {self.path} cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def count(self) -> int:
        return self.reasons.total()

    def add(self, bad: BadLine) -> None:
        self.reasons[bad.reason] += 1
        if self._file is not None:
            self._file.write(json.dumps(bad._asdict(), ensure_ascii=True) + "\n")
        if self.count <= SHOWN_MAX:
            typer.echo(f"line {bad.line}: {bad.reason}: {bad.message}", err=True)
        elif self.count == SHOWN_MAX + 1:
            where = f"all are in {self.path}" if self.path else "--rejects FILE writes all of them"
            typer.echo(f"... more bad lines; {where}", err=True)

    def summary(self) -> str:
        """``2 bad lines (no_value 1, not_json 1)``"""
        if not self.count:
            return "no bad lines"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.reasons.items()))
        return f"{self.count:,} bad line{'s' if self.count > 1 else ''} ({reasons})"
