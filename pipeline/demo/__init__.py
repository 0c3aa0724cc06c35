"""The demonstration: a year of departures from New York, what is done to them on purpose, and the plain answer."""
