"""How right is an answer? Each metric maps (prediction, references) to 0…100, the best over the references.

The definitions are those of the Super-NaturalInstructions benchmark (Wang et al. 2022, §5): exact match after
lower-casing and removing punctuation, which is SQuAD's normalisation (Rajpurkar et al. 2016) with articles left in, and
the F-measure of ROUGE-L with stemming. That normalisation is made for words, where punctuation says little; what is
part of a number, or the whole of an answer, is kept here:

- the minus of a negative number or exponent and the point of a decimal one: -5 is not 5, 1e-5 not 1e5, nor 2.5 25;
- an operator between two numbers, also with spaces, and a colon: 3/4, 10:30 and 2 + 3 are not 34, 1030 and 2 3;
- a comparison before a number, or between words that stand apart from it: <=3 is neither >=3 nor 3, x > y not x < y;
- commas inside a number are thousands (1,000 is 1000), others between digits part them (1,2 is 1 2 and not 12);
- an answer of punctuation alone: * is neither + nor nothing.

$, % and everything around a number still go ($5, 5% and (5). are 5).

Both measure other scripts than Latin as well (`flanscale.evaluation.scripts`). In texts that have words of these, exact
match drops punctuation of any script (。, ।, ؟, «») as it drops ASCII's, unless a digit follows, and signs that are not
seen, as joiners. Texts of Latin letters alone keep “ ”, ¿ and the like, as they always did. In all texts, an accented
letter is the same as one character or two (NFC).

Answers to questions about a passage are compared as SQuAD 1.1 does (Rajpurkar et al. 2016), which TyDiQA's gold passage
task asks for in every language: in lower case, without punctuation and English articles. Two things are ours: texts
are put in NFKC, as vocabularies like T5's do, and the punctuation of every script goes, as in MLQA (Lewis et al. 2020),
so that a danda weighs no more than a full stop; and an answer of which nothing would be left stays whole: "A" is not
"The".
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from flanscale.evaluation.scripts import OTHER_SCRIPTS, has_other_words, words

_OF_NUMBERS = (
    r"(?<=\d)\s*[-+*/^=<>]+\s*(?=[-.]?\d)",  # an operator
    r"(?<=\d)[.:](?=\d)",
    r"(?<=\de)-(?=\d)",  # of an exponent
    r"(?<![\w.-])-(?=\.?\d)",  # a sign
    r"(?<![\w.])\.(?=\d)",
    r"(?<= )(?:[<>]=?|!=)(?= |[-.]?\d)",  # a comparison
)
_DOLLAR = re.compile(r"\$(?=\.?\d)")  # it may stand between a sign and its number
_COMPARED = re.compile(r"(?<![-=<>!\d])(?<!\d ) ?([<>]=?|!=) ?(?=[-.]?\d)")
_LIST_COMMA = re.compile(r"(?<=\d),(?=\d)(?!\d{3}(?!\d))")
_NOT_ASCII = re.compile(r"[^\x00-\x7f\w\s](?!\d)")
_PUNCTUATION = re.compile(f"({'|'.join(_OF_NUMBERS)})|[{re.escape(string.punctuation)}]")
_ENGLISH_ARTICLE = re.compile(r"\b(a|an|the)\b")


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """100 if the prediction equals a reference up to case, white space and what punctuation says little, else 0."""
    answer = _normalised(prediction)
    return 100.0 * any(answer == _normalised(reference) for reference in references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure in percent, with Porter stemming; as `exact_match` where a reference has no words."""
    return max(_overlap(prediction, reference) for reference in references)


def exact(prediction: str, references: Sequence[str]) -> float:
    """100 if the prediction is one of the references, to the character: their benchmark's extraction is the rule."""
    return 100.0 * (prediction in references)


def qa_exact(prediction: str, references: Sequence[str]) -> float:
    """100 if the prediction equals a reference up to case, white space, punctuation and English articles, else 0."""
    answer = _qa_normalised(prediction)
    return 100.0 * any(answer == _qa_normalised(reference) for reference in references)


def qa_f1(prediction: str, references: Sequence[str]) -> float:
    """The F-measure of the words that prediction and reference share, as often as both have them, in percent."""
    answer = _qa_normalised(prediction).split()
    return 100.0 * max(_f_measure(answer, _qa_normalised(reference).split()) for reference in references)


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "exact": exact,
    "exact_match": exact_match,
    "rouge_l": rouge_l,
    "qa_exact": qa_exact,
    "qa_f1": qa_f1,
}


def _normalised(text: str) -> str:
    text = unicodedata.normalize("NFC", text).lower().replace("−", "-")
    if not text.isascii() and has_other_words(text):
        text = _NOT_ASCII.sub(_without_punctuation, text)
    text = _LIST_COMMA.sub(" ", _DOLLAR.sub("", " ".join(text.split())))
    words = _PUNCTUATION.sub(r"\1", _COMPARED.sub(r" \1", text))
    return " ".join((words if words.strip() else text).split())


def _qa_normalised(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower()
    bare = "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words = _ENGLISH_ARTICLE.sub(" ", bare)
    return " ".join((words if words.strip() else text).split())


def _f_measure(answer: Sequence[str], reference: Sequence[str]) -> float:
    shared = (Counter(answer) & Counter(reference)).total()
    return 2.0 * shared / (len(answer) + len(reference)) if shared else 0.0


def _overlap(prediction: str, reference: str) -> float:
    scorer, tokenizer = _rouge()
    measure: float = scorer.score(reference, prediction)["rougeL"].fmeasure
    return 100.0 * measure if measure or tokenizer.tokenize(reference) else exact_match(prediction, [reference])


def _without_punctuation(found: re.Match[str]) -> str:
    category = unicodedata.category(found[0])
    return "" if category[0] == "P" or category == "Cf" else found[0]


class _Tokenizer:
    """ROUGE's own words, stemmed, and those of other scripts between them."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._own = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        runs = OTHER_SCRIPTS.split(text)
        return [
            word for place, run in enumerate(runs) for word in (words(run) if place % 2 else self._own.tokenize(run))
        ]


@cache
def _rouge() -> tuple[Any, _Tokenizer]:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _Tokenizer()
    return RougeScorer(["rougeL"], tokenizer=tokenizer), tokenizer
