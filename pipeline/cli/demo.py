"""``meterline demo``."""


def demo() -> None:
    """A year of departures from New York, metered and proven."""
