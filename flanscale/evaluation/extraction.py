"""Which answer is in what a model wrote? Rules that several benchmarks share; None where there is no answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import ascii_uppercase

_CONCLUSION = re.compile(r".*the answer is(.*)", re.DOTALL | re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\(([A-Z])\)(?!\s*(?:,|/|or|and)\s*\([A-Z]\))")
_BARE = re.compile(r"([A-Z])[.):]?")
_WITH_TEXT = re.compile(r"([A-Z])[.):]\s*(.+)")


def before(text: str, stops: Iterable[str]) -> str:
    """What a text says before the first of some others: models go on and ask themselves the next question."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]


def first_line(text: str) -> str | None:
    """The first line that is not blank, without white space around it and without one final full stop."""
    return text.strip().split("\n", 1)[0].strip().removesuffix(".") or None


def concluded(text: str) -> str | None:
    """The first line of what follows the last "the answer is".

    On the recorded outputs of code-davinci-002 (suzgunmirac/BIG-Bench-Hard) this rule, and `first_line` for answers
    without reasoning, give all 54 published accuracies.
    """
    found = _CONCLUSION.match(text)
    return first_line(found[1]) if found else None


def chosen_letter(text: str, listed: Sequence[str]) -> str | None:
    """The letter of the option that the first line chooses: (A), whatever follows; A or A. alone or with the option's
    own text; or that text alone, which must be no other option's.

    Two letters ("(A) or (B)"), a letter that no option has and a sentence that begins with one choose nothing.
    """
    if not (line := first_line(text)):
        return None
    texts = dict(zip(ascii_uppercase, (option.strip().removesuffix(".") for option in listed), strict=False))
    if found := _IN_BRACKETS.match(line) or _BARE.fullmatch(line):
        return found[1] if found[1] in texts else None
    if found := _WITH_TEXT.fullmatch(line):
        return found[1] if texts.get(found[1]) == found[2] else None
    spelt = [letter for letter, option in texts.items() if option == line]
    return spelt[0] if len(spelt) == 1 else None
