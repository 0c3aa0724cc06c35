"""Currencies as data: ISO 4217's minor units, and where the API counts in others.

An amount is a number of minor units: cents, yen, fils. How many digits of it stand after the point when it is shown is
the currency's business, and so is what the smallest charge is.
"""

from __future__ import annotations

from typing import NamedTuple


class Currency(NamedTuple):
    """How amounts of a currency are written and rounded."""

    digits: int
    """How many digits of an amount stand behind the point when it is shown: 2 for USD, 0 for JPY, 3 for KWD."""
    step: int = 1
    """Charges are multiples of this many minor units."""


_TWO_DIGITS = """
aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd btn bwp byn bzd cad cdf chf cny cop crc cup
cve czk dkk dop dzd egp ern etb eur fjd fkp gbp gel ghs gip gmd gtq gyd hkd hnl htg huf idr ils inr irr jmd kes kgs khr
kpw kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk
php pkr pln qar ron rsd rub sar sbd scr sdg sek sgd shp sle sos srd ssp stn svc syp szl thb tjs tmt top try ttd twd tzs
uah usd uyu uzs ved ves wst xcd xcg yer zar zmw zwg
"""
_NO_DIGITS = "bif clp djf gnf jpy kmf krw pyg rwf vnd vuv xaf xof xpf"
_THREE_DIGITS = "bhd iqd jod kwd lyd omr tnd"

CURRENCIES: dict[str, Currency] = {
    **dict.fromkeys(_TWO_DIGITS.split(), Currency(2)),
    **dict.fromkeys(_NO_DIGITS.split(), Currency(0)),
    **dict.fromkeys(_THREE_DIGITS.split(), Currency(3)),
    # Not as in ISO 4217, but as Stripe's API counts them: an ariary has no cents there, and a króna and a shilling,
    # which have none, are still written as a hundred.
    "mga": Currency(0),
    "isk": Currency(2, step=100),
    "ugx": Currency(2, step=100),
}
"""By the code in small letters."""


def currency_of(code: str) -> Currency:
    """Raises KeyError for a code that is none."""
    return CURRENCIES[code]


def decimal_text(number: int, places: int, least: int = 0) -> str:
    """``number`` x 10^-``places`` as an exact decimal; trailing zeros go, but ``least`` digits after the point stay."""
    whole, fraction = divmod(abs(number), 10**places)
    digits = f"{fraction:0{places}d}" if places else ""
    kept = digits.rstrip("0").ljust(least, "0")
    return f"{'-' if number < 0 else ''}{whole}{'.' if kept else ''}{kept}"


def money_text(code: str, amount: int, places: int = 0) -> str:
    """An amount as people write it: ``money_text("usd", 12750)`` is ``127.50 USD``.

    ``amount`` is in minor units x 10^-``places``.
    """
    digits = currency_of(code).digits
    return f"{decimal_text(amount, places + digits, digits)} {code.upper()}"
