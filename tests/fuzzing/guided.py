"""One target under libFuzzer, which keeps every input that reaches what none reached before: see __main__.py.

A process of its own, because libFuzzer ends it. The arguments after the target's name are libFuzzer's.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipeline"], enable_loader_override=False):
    from tests.fuzzing.mutation import check


def main() -> None:
    program, name, *options = sys.argv
    atheris.Setup([program, *options], lambda value: check(name, value))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
