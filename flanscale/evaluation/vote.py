"""Which answer do most samples give? Self-consistency (Wang et al. 2022, arXiv:2203.11171), from recorded samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from flanscale.errors import ConfigError
from flanscale.evaluation.aggregate import mean_of
from flanscale.evaluation.estimate import Estimate
from flanscale.evaluation.records import Record


def vote(answers: Iterable[str | None]) -> str | None:
    """The most frequent answer, the one seen first where several are; None, no answer found, does not vote."""
    votes = Counter(answer for answer in answers if answer is not None)
    return max(votes, key=votes.__getitem__, default=None)


def curve(records: Sequence[Record], points: Callable[[Record, str], float]) -> tuple[Estimate, ...]:
    """The score of the first 1, 2, … samples of each item, up to the fewest that an item has.

    Args:
        points: what an answer to a record's item is worth, 0 to 100; an item without an answer gets none.

    Raises:
        ConfigError: an item that counts has no sample, or none counts.
    """
    counted = [record for record in records if record.scores]
    if not counted:
        raise ConfigError("none of the records has a score, so no vote can be held")
    if without := [record.key for record in counted if not record.samples]:
        raise ConfigError(f"{without[0]!r} has no sample: its options were ranked, so no vote can be held")
    estimates = []
    for k in range(1, min(len(record.samples) for record in counted) + 1):
        voted = [vote(sample.answer for sample in record.samples[:k]) for record in counted]
        worth = [
            0.0 if answer is None else points(record, answer) for record, answer in zip(counted, voted, strict=True)
        ]
        estimates.append(mean_of(counted, worth, binary=all(point in (0.0, 100.0) for point in worth)))
    return tuple(estimates)
