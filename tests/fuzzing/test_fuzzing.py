"""No bytes make a decoder or a parser do anything but read them or say what is wrong (FAULTS F4, G2, S19).

``make fuzz MINUTES=10`` goes on for longer, from another seed each time; what it finds stays in tests/corpus.
"""

from __future__ import annotations

from itertools import islice

import pytest

from tests.fuzzing.mutation import Finding, check, inputs
from tests.fuzzing.targets import TARGETS

INPUTS = 2_000


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name: str) -> None:
    for value in islice(inputs(name, seed=1), INPUTS):
        check(name, value)


def test_a_target_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "gateway_json", lambda value: value[4096])
    with pytest.raises(Finding, match="IndexError"):
        check("gateway_json", b"{}")
