"""What are the words of a text in any script? Those that ROUGE finds, and those that it passes over: of other scripts.

To ROUGE's own tokenizer all but a-z and 0-9 is a gap, so that an answer in Hindi, Chinese or Russian has no words and
scores 0. The official evaluation of Super-NaturalInstructions cuts the answers of its cross-lingual track with GPT-2's
vocabulary instead, and does not stem; here no vocabulary is needed, so that figures of that track are not comparable.
Figures of English are as they were: a text of Latin letters, accented ones too, has the words that ROUGE finds in it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# All but ASCII, Latin letters of any kind, accents and symbols; the joiners of other scripts (200c, 200d) are left in.
_OTHER = (
    r"[^\0-\u036f\u1ab0-\u1aff\u1d00-\u1eff\u2000-\u200b\u200e-\u2bff\u2c60-\u2c7f\ua720-\ua7ff\uab30-\uab6f"
    r"\ufb00-\ufb06\U0001d400-\U0001d7ff]"
)
OTHER_SCRIPTS = re.compile(rf"({_OTHER}(?:{_OTHER}|[\u0300-\u036f])*)")
"""A run of other scripts, with their own punctuation and the accents on their letters."""
# Han with its marks and numerals, Hiragana, Katakana; Thai, Lao, Myanmar, Khmer.
_WITHOUT_SPACES = re.compile(
    r"[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    r"\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff]"
)
_JOINERS = re.compile("[\u200c\u200d]")
_WORD = re.compile("l[lmj]*|c[mj]*")


def words(run: str) -> list[str]:
    """The words of a run of other scripts, in lower case and NFC: letters and digits with the marks on them.

    Of scripts that are written without spaces, each character is one; joiners, which change no letter, are left out.
    """
    text = unicodedata.normalize("NFC", run.lower())
    kinds = "".join(map(_kind, text))
    return [_JOINERS.sub("", text[word.start() : word.end()]) for word in _WORD.finditer(kinds)]


def has_other_words(text: str) -> bool:
    """Whether a text has words of other scripts than Latin."""
    return any(words(run) for run in OTHER_SCRIPTS.findall(text))


@lru_cache(maxsize=1 << 14)
def _kind(char: str) -> str:
    """l(etter), c(haracter that is a word), m(ark), j(oiner), or nothing of a word."""
    category = unicodedata.category(char)
    if category[0] == "L" or category in ("Nd", "Nl"):
        return "c" if _WITHOUT_SPACES.match(char) else "l"
    return "m" if category[0] == "M" else "j" if _JOINERS.match(char) else " "
