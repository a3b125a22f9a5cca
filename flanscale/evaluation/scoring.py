"""How right is an answer? Each metric maps (prediction, references) to 0…100, the best over the references.

The definitions are those of the Super-NaturalInstructions benchmark (Wang et al. 2022, §5): exact match after
lower-casing and removing punctuation, and the F-measure of ROUGE-L with stemming.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

_DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """100 if the prediction equals a reference up to case, punctuation and white space, else 0."""
    answer = _normalised(prediction)
    return 100.0 * any(answer == _normalised(reference) for reference in references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure in percent, with Porter stemming."""
    scorer = _rouge_scorer()
    return 100.0 * max(scorer.score(reference, prediction)["rougeL"].fmeasure for reference in references)


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {"exact_match": exact_match, "rouge_l": rouge_l}


def _normalised(text: str) -> str:
    return " ".join(text.lower().translate(_DROP_PUNCTUATION).split())


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
