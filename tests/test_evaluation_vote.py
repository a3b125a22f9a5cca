"""Self-consistency: the most frequent answer counts, and failures have no say."""

from __future__ import annotations

import numpy as np
import pytest
from answered import record, samples

from flanscale.errors import ConfigError
from flanscale.evaluation.metrics import exact
from flanscale.evaluation.vote import curve, vote


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (["a", "b", "b"], "b"),
        (["a", "b", "b", "a"], "a"),
        ([None, None, "b"], "b"),
        ([None, None], None),
        ([], None),
    ],
)
def test_failures_do_not_vote_and_the_first_of_several_wins(given: list[str | None], chosen: str | None) -> None:
    assert vote(given) == chosen


def test_the_curve_of_self_consistency_is_made_of_the_same_samples() -> None:
    answered = [
        record("a/0", samples=samples("no", "yes", "yes", "no")),
        record("a/1", samples=samples("yes", None, None)),
        record("a/2", samples=samples(None, "yes", "no")),
        record("a/3", None, status="skipped"),
    ]
    votes = curve(answered, lambda item, answer: exact(answer, [item.reference or ""]))
    assert [round(vote.value, 2) for vote in votes] == [33.33, 66.67, 100.0]
    assert votes[0].stderr == pytest.approx(np.std([0, 100, 0], ddof=1) / np.sqrt(3))
    assert votes[2].stderr == 0.0
    with pytest.raises(ConfigError, match="'a/0' has no sample"):
        curve([record("a/0")], lambda item, answer: 0.0)
    with pytest.raises(ConfigError, match="none of the records has a score"):
        curve([], lambda item, answer: 0.0)
