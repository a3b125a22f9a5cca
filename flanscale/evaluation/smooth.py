"""How near is a model to the right option? Measures that grow before accuracy leaves chance, from the records alone.

Of an item with options o of log-probability l_o (nats, all its tokens) and q_o = exp(l_o) / Σ exp(l):

    bits_per_byte  −l_gold / ln 2 / UTF-8 bytes of the gold option   (Bhagia et al. 2024, arXiv:2412.04403)
    log_gold       l_gold, over the whole vocabulary                  (Schaeffer et al. 2024, arXiv:2406.04391)
    share_gold     q_gold                                             (the same)
    mass           Σ exp(l): what the model gives to the options at all
    brier          Σ over options (q_o − 1[o is gold])²               (the same)

Each is the mean over subtasks of the mean over items. They are meant for settings where the options are texts (cloze):
bits per byte of a letter say nothing. Accuracy is under each ranking, of which one, the setting's, is the headline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flanscale.errors import ConfigError
from flanscale.evaluation.aggregate import mean_of
from flanscale.evaluation.estimate import Estimate
from flanscale.evaluation.records import SKIPPED, Option, Record

RANKINGS: dict[str, Callable[[Option], float]] = {
    "sum": lambda option: option.logprob,
    "per_token": lambda option: option.logprob / option.tokens,
    "per_byte": lambda option: option.logprob / option.bytes,
    "pmi": lambda option: option.logprob - option.unconditional,
}


@dataclass(frozen=True)
class Smooth:
    """The measures of the module; `n` items each."""

    bits_per_byte: Estimate
    log_gold: Estimate
    share_gold: Estimate
    mass: Estimate
    brier: Estimate
    failures: int
    """Items that are in none of them, as a log-probability was not finite."""


@dataclass(frozen=True)
class Accuracies:
    """Shares of items, in percent, whose gold option a ranking puts first; an item that cannot be ranked is wrong."""

    headline: str
    by: Mapping[str, Estimate]
    """By ranking; pmi is among them where unconditional log-probabilities are known."""


def rank(options: Sequence[Option], by: str) -> int | None:
    """The place of the best option, the first of several; None where a log-probability is not finite or all are alike.

    Args:
        by: one of `RANKINGS`.
    """
    values = [RANKINGS[by](option) for option in options]
    if not all(math.isfinite(value) for value in values):
        return None
    if len(set(values)) < 2 or len({option.logprob for option in options}) < 2:
        return None
    return values.index(max(values))


def is_right(texts: Sequence[str], chosen: int | None, gold: int) -> bool:
    """Whether the chosen option is the gold one, or another of the same text."""
    return chosen is not None and texts[chosen] == texts[gold]


def smooth(records: Sequence[Record]) -> Smooth:
    """The smooth measures of the items whose options were ranked.

    Raises:
        ConfigError: no item has options with finite log-probabilities.
    """
    ranked = _ranked(records)
    finite = [(record, gold) for record, gold in ranked if all(math.isfinite(o.logprob) for o in record.options)]
    if not finite:
        raise ConfigError(f"{len(ranked)} of {len(records)} items have ranked options, none with finite probabilities")

    def mean(measure: Callable[[Sequence[Option], int], float]) -> Estimate:
        return mean_of([record for record, _ in finite], [measure(record.options, gold) for record, gold in finite])

    return Smooth(
        bits_per_byte=mean(lambda options, gold: -options[gold].logprob / math.log(2) / options[gold].bytes),
        log_gold=mean(lambda options, gold: options[gold].logprob),
        share_gold=mean(lambda options, gold: _shares(options)[gold]),
        mass=mean(lambda options, _: math.fsum(math.exp(option.logprob) for option in options)),
        brier=mean(lambda options, gold: sum((q - (at == gold)) ** 2 for at, q in enumerate(_shares(options)))),
        failures=len(ranked) - len(finite),
    )


def accuracies(records: Sequence[Record], texts: Mapping[str, Sequence[str]], headline: str) -> Accuracies:
    """Accuracy under each ranking, from the same records.

    Args:
        texts: the options of each item by its key, as options of one text are equally right.
        headline: the setting's ranking.

    Raises:
        ConfigError: no item has ranked options.
    """
    ranked = _ranked(records)
    if not ranked:
        raise ConfigError(f"none of {len(records)} items has ranked options")
    known = any(math.isfinite(option.unconditional) for record, _ in ranked for option in record.options)
    by = {}
    for name in RANKINGS:
        if name != "pmi" or known:
            right = [is_right(texts[record.key], rank(record.options, name), gold) for record, gold in ranked]
            by[name] = mean_of([record for record, _ in ranked], [100.0 * one for one in right], binary=True)
    return Accuracies(headline, by)


def _ranked(records: Sequence[Record]) -> list[tuple[Record, int]]:
    return [
        (record, record.gold)
        for record in records
        if record.status != SKIPPED and record.options and record.gold is not None
    ]


def _shares(options: Sequence[Option]) -> list[float]:
    best = max(option.logprob for option in options)
    weights = [math.exp(option.logprob - best) for option in options]
    return [weight / sum(weights) for weight in weights]
