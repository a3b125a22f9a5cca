"""How right is an answer? Each metric maps (prediction, references) to 0…100, the best over the references.

The definitions are those of the Super-NaturalInstructions benchmark (Wang et al. 2022, §5): exact match after
lower-casing and removing punctuation, which is SQuAD's normalisation (Rajpurkar et al. 2016) with articles left in, and
the F-measure of ROUGE-L with stemming. That normalisation is made for words, where punctuation says little; what is
part of a number, or the whole of an answer, is kept here:

- the minus of a negative number or exponent and the point of a decimal one: -5 is not 5, 1e-5 not 1e5, nor 2.5 25;
- an operator between two numbers, also with spaces, and a colon: 3/4, 10:30 and 2 + 3 are not 34, 1030 and 2 3;
- commas inside a number are thousands (1,000 is 1000), others between digits part them (1,2 is 1 2 and not 12);
- an answer of punctuation alone: * is neither + nor nothing.

$, % and everything around a number still go ($5, 5% and (5). are 5).

Answers to questions about a passage are compared as SQuAD 1.1 does (Rajpurkar et al. 2016), which TyDiQA's gold passage
task asks for in every language: in lower case, without punctuation and English articles. Two things are ours: texts
are put in NFC, and the punctuation of every script goes, as in MLQA (Lewis et al. 2020), so that a danda weighs no more
than a full stop; and an answer of which nothing would be left stays whole: "A" is not "The".
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

_OF_NUMBERS = (
    r"(?<=\d)\s*[-+*/^=<>]+\s*(?=[-.]?\d)",  # an operator
    r"(?<=\d)[.:](?=\d)",
    r"(?<=\de)-(?=\d)",  # of an exponent
    r"(?<![\w.-])-(?=\.?\d)",  # a sign
    r"(?<![\w.])\.(?=\d)",
)
_DOLLAR = re.compile(r"\$(?=\.?\d)")  # it may stand between a sign and its number
_LIST_COMMA = re.compile(r"(?<=\d),(?=\d)(?!\d{3}(?!\d))")
_PUNCTUATION = re.compile(f"({'|'.join(_OF_NUMBERS)})|[{re.escape(string.punctuation)}]")
_ENGLISH_ARTICLE = re.compile(r"\b(a|an|the)\b")


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """100 if the prediction equals a reference up to case, white space and what punctuation says little, else 0."""
    answer = _normalised(prediction)
    return 100.0 * any(answer == _normalised(reference) for reference in references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure in percent, with Porter stemming."""
    scorer = _rouge_scorer()
    return 100.0 * max(scorer.score(reference, prediction)["rougeL"].fmeasure for reference in references)


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
    text = text.lower().replace("−", "-")
    words = _PUNCTUATION.sub(r"\1", _LIST_COMMA.sub(" ", _DOLLAR.sub("", text)))
    return " ".join((words if words.strip() else text).split())


def _qa_normalised(text: str) -> str:
    text = unicodedata.normalize("NFC", text).lower()
    bare = "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words = _ENGLISH_ARTICLE.sub(" ", bare)
    return " ".join((words if words.strip() else text).split())


def _f_measure(answer: Sequence[str], reference: Sequence[str]) -> float:
    shared = (Counter(answer) & Counter(reference)).total()
    return 2.0 * shared / (len(answer) + len(reference)) if shared else 0.0


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
