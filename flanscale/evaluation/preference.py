"""Which answer is shown to people, and whose do they prefer? A rule for samples, and a win rate with its interval.

Both follow Chung et al. (2022, §6, appendix I), who report that Flan-PaLM was preferred in 79 % of pairs, judged once
each, without an error. The interval here is Wilson's (1927), which holds for few items and for shares near 0 and 100 %.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TypeVar

from flanscale.evaluation.estimate import wilson
from flanscale.evaluation.records import Sample

LEVEL = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Judgement:
    """What one person thinks of the answers of two models, the first and the second, to one item."""

    key: str
    subtask: str
    cluster: str
    """As in `Item`: empty for an item alone."""
    rater: str
    points: float
    """Of the first model: 1 where its answer is better, a half for a tie, else 0."""
    failed: tuple[bool, bool]
    """Whether the first and the second are no answer at all: F in the paper's rating rules."""


@dataclass(frozen=True)
class WinRate:
    """How often the first model is preferred to the second, a tie counted as half; shares in percent."""

    subtask: str
    """Empty: all items."""
    items: int
    judgements: int
    """The next three are parts of them."""
    wins: int
    ties: int
    losses: int
    share: float
    """The mean over items of the mean over who judged them."""
    low: float
    high: float
    """Of the interval, at `LEVEL`."""
    failed: tuple[float, float]
    """Answers of the first and of the second that failed, averaged as `share`."""


def shown(samples: Sequence[Sample]) -> Sample | None:
    """The sample that stands for a model's answer: the only one, or of several one with a finite log-probability.

    None where there is none.

    Samples whose log-probability is better than half the median are dropped, as likely to repeat themselves: where the
    median is -20, one of -3 goes and one of -10 stays. Of the others the likeliest is shown, the first of equals,
    whatever its length. Half of the samples are at the median or below, so that some always stay.
    """
    if len(samples) == 1:
        return samples[0]
    finite = [sample for sample in samples if math.isfinite(sample.logprob)]
    if not finite:
        return None
    middle = median(sample.logprob for sample in finite)
    bound = max(middle / 2, middle)  # rounding may leave a certain text's probability above 1
    return max((sample for sample in finite if sample.logprob <= bound), key=lambda sample: sample.logprob)


def win_rates(judgements: Sequence[Judgement]) -> list[WinRate]:
    """The win rate over all items, then that over each subtask's where there are several, by name; none of nothing."""
    by_subtask = _grouped((each.subtask, each) for each in judgements)
    named = sorted(by_subtask.items()) if len(by_subtask) > 1 else []
    return [_win_rate(*part) for part in [("", judgements), *named] if judgements]


def _win_rate(subtask: str, judgements: Sequence[Judgement]) -> WinRate:
    by_item = _grouped((each.key, each) for each in judgements).values()
    share = _mean([[each.points for each in item] for item in by_item])
    low, high = wilson(share, _independent(by_item, share), LEVEL)
    return WinRate(
        subtask,
        items=len(by_item),
        judgements=len(judgements),
        wins=sum(each.points == 1 for each in judgements),
        ties=sum(each.points == 0.5 for each in judgements),
        losses=sum(each.points == 0 for each in judgements),
        share=100 * share,
        low=100 * low,
        high=100 * high,
        failed=(
            100 * _mean([[each.failed[0] for each in item] for item in by_item]),
            100 * _mean([[each.failed[1] for each in item] for item in by_item]),
        ),
    )


def _independent(by_item: Collection[Sequence[Judgement]], share: float) -> float:
    """How many independent judgements would say as much: the judgements over their design effect, never more than they.

    Several judgements of one item, and items of one cluster, agree more than strangers. The design effect is the
    variance between clusters over that of independent judgements; few clusters know it badly, so that Student's
    quantiles are compared too (Korn & Graubard 1998; with Wilson's interval: Franco et al. 2019). Who judges is taken
    as given. Where all say the same there is no variance to go by, and a cluster counts once.
    """
    from scipy.stats import t

    clusters = _grouped((item[0].cluster or item[0].key, fmean(each.points for each in item)) for item in by_item)
    n, k = sum(map(len, by_item)), len(clusters)
    if k == 1 or share in (0, 1):
        return k
    between = k / (k - 1) * sum(sum(point - share for point in points) ** 2 for points in clusters.values())
    variance, alone = between / len(by_item) ** 2, share * (1 - share) / (n - 1)
    quantile = (1 + LEVEL) / 2
    narrowing = float(t.ppf(quantile, n - 1) / t.ppf(quantile, k - 1)) ** 2
    return min(n, n * alone / variance * narrowing) if variance else n


def _mean(values: Sequence[Sequence[float]]) -> float:
    """Over items, of the mean over who judged them."""
    return fmean(fmean(item) for item in values)


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Values by key, in the order in which keys come."""
    groups: dict[str, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
