"""Which number does a text end in? The last one counts, written in one way however it stood in the text.

Texts are put in NFC, and digits of every script count: ১৮, ౧౮, ๑๘ and １８ are 18, whatever letters touch them. Then

- an integer has no sign but a minus, no separators and no zeros in front: $18, +18, 18% and 18. are 18, and −0 is 0;
- a decimal has no zeros behind: 18.00 is 18 and .50 is 0.5; 1.5e3 is 1500;
- a comma, an apostrophe or a special space (no-break, narrow no-break, thin, figure) before every three digits of a
  number that does not begin with 0 parts thousands, in all languages: 1,000 is 1000; so does India's 1,00,000;
- where `decimal_comma` says so (German, Spanish, French, Russian), a full stop or a space does that too, and another
  comma is the decimal point: 1.000 and 1 000 are 1000, and 3,5 and 3.5 are 3.5. A comma before three digits parts
  thousands there as well, since the references of MGSM are written so in every language;
- a hyphen or a minus that touches its number, or the currency sign of it, is its sign, unless a digit, a bracket or a
  letter of a script with capitals precedes: x-5 and 8-5 end in 5. Dashes (– and —) are no signs;
- a fraction is one number and stays as it is written: 1/2 is neither 2 nor 0.5, and 36/2 is not yet 18.

Numbers in words, in Roman or Chinese numerals, and 万 behind a number are not read.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

_SIGNS = dict.fromkeys(map(ord, "−－﹣‐‑"), "-") | {ord("٬"): ",", ord("٫"): "."}
_FULL_WIDTH = re.compile(r"(?<=[０-９])[，．](?=[０-９])")
_SEPARATORS = ",'’\u00a0\u202f\u2009\u2007"


def last_number(text: str, *, decimal_comma: bool = False) -> str | None:
    """The last number of a text in its one form; None where there is no digit."""
    found = list(_PATTERNS[decimal_comma].finditer(_plain(text)))
    return _canonical(found[-1]) if found else None


def _plain(text: str) -> str:
    """With ASCII's digits, minus and separators."""
    text = unicodedata.normalize("NFC", text).translate(_SIGNS)
    text = _FULL_WIDTH.sub(lambda mark: unicodedata.normalize("NFKC", mark[0]), text)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def _pattern(separators: str, points: str) -> re.Pattern[str]:
    groups = "+" if "," in points else "{2,}"  # 1.000.000 can be nothing else anywhere
    return re.compile(
        rf"""
        (?P<sign> (?<![0-9A-Za-z\u00c0-\u024f\u0370-\u052f)\]}}]) - )?
        [$€£¥₹৳฿₽]?
        (?: (?P<fraction> (?<![\d.,/]) \d+/\d+ (?![\d/]|[.,]\d) )
          | (?P<whole>
                [1-9]\d? (?:,\d\d)+ ,\d{{3}} (?!\d)  # India's
              | [1-9]\d{{0,2}} (?P<separator>[{separators}]) \d{{3}} (?:(?P=separator)\d{{3}})* (?!\d)
              | [1-9]\d{{0,2}} (?:\.\d{{3}}){groups} (?!\d)
              | \d+
            )
            (?: [{points}] (?P<decimals>\d+) )?
            (?P<exponent> [eE][+-]?\d{{1,2}} (?!\w) )?
          | (?<![\w.]) \. (?P<bare>\d+)
        )
        """,
        re.VERBOSE,
    )


# A space in a character class of a verbose pattern stands for itself.
_PATTERNS = {False: _pattern(_SEPARATORS, "."), True: _pattern(_SEPARATORS + " ", ".,")}


def _canonical(found: re.Match[str]) -> str:
    sign = "-" if found["sign"] else ""
    if found["fraction"]:
        return sign + found["fraction"]
    whole = re.sub(r"\D", "", found["whole"] or "") or "0"
    decimals = found["decimals"] or found["bare"] or "0"
    number = format(Decimal(f"{whole}.{decimals}{found['exponent'] or ''}"), "f")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return number if number == "0" else sign + number
