"""The score of a benchmark: what counts, what guessing gives, what is missing, and what its error is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from answered import floors, record, records, samples

from flanscale.errors import ConfigError, DataError, UserError
from flanscale.evaluation.aggregate import PAPER, Score, aggregate, average, label
from flanscale.evaluation.item import Floor
from flanscale.evaluation.records import Record


def scored(answered: Sequence[Record], **changed: Any) -> Score:
    """Of `bbh/cot` under `exact`, where guessing scores nothing."""
    subtasks = dict.fromkeys(one.subtask for one in answered)
    arguments: dict[str, Any] = {"benchmark": "bbh", "setting": "cot", "floors": floors(*subtasks)}
    return aggregate(answered, "exact", **{**arguments, **changed})


def whole(name: str) -> Score:
    benchmark, setting = name.split("/")
    return scored(records({"a": [100, 0], "b": [100, 100]}), benchmark=benchmark, setting=setting)


def test_scores_errors_and_averages_are_these() -> None:
    """Worked out by hand: tasks' means of 50, 75, 100 and 0, 50, 0; an item's mean over both settings has the error."""
    direct = scored(records({"a": [100, 0], "b": [100, 100, 100, 0], "c": [100]}), benchmark="niv2", setting="direct")
    cot = scored(records({"a": [0, 0], "b": [100, 100, 0, 0], "c": [0]}), benchmark="niv2", setting="cot")
    assert (direct.score, direct.n, direct.lower_bound, direct.normalized) == (75, 7, 0, 75)
    assert direct.stderr == pytest.approx(math.sqrt(5000 / 2 + 2500 / 4 + 0) / 3)
    assert direct.stderr_tasks == pytest.approx(25 / math.sqrt(3))
    assert (cot.score, cot.stderr) == pytest.approx((50 / 3, math.sqrt(10000 / 3 / 4) / 3))
    both = average([direct, cot])
    assert both.score == pytest.approx((75 + 50 / 3) / 2)
    assert both.stderr == pytest.approx(math.sqrt(1250 / 2 + 6875 / 3 / 4 + 0) / 3)
    assert both.members == ("niv2/direct", "niv2/cot")


def test_an_item_without_an_answer_is_wrong_and_one_that_was_skipped_is_none() -> None:
    answered = [
        record("a/0"),
        record("a/1", 0.0, status="no_answer", answer=None),
        record("a/2", None, status="skipped"),
        record("a/3", None, reference=None),
    ]
    score = scored(answered)
    assert (score.score, score.n) == (50.0, 2)


def test_what_became_of_the_items_is_counted() -> None:
    answered = [
        record("a/0", samples=samples("yes", "no", ended=False)),
        record("a/1", samples=samples("yes", "yes"), shots=1, dropped=2),
        record("a/2", 0.0, status="no_answer", answer=None, samples=samples(None, None)),
        record("a/3", None, status="skipped", shots=0, dropped=3),
        record("a/4", flags=("duplicate_options", "contaminated")),
    ]
    counts = scored(answered).counts
    assert (counts.asked, counts.answered, counts.failures, counts.skipped) == (5, 3, 1, 1)
    assert (counts.samples, counts.cut, counts.dropped, counts.contaminated) == (6, 2, 1, 1)
    assert counts.shots == (3 + 1 + 3 + 3) / 4
    assert counts.failed == 0.25


def test_a_score_is_flagged_where_more_than_a_fifth_of_the_items_hold_no_answer() -> None:
    right = records({"a": [100.0] * 4})
    failed = [record(f"a/failed {at}", 0.0, status="no_answer") for at in range(2)]
    skipped = [record(f"a/skipped {at}", None, status="skipped") for at in range(5)]
    assert not scored([*right, *failed[:1], *skipped]).counts.flagged
    assert scored([*right, *failed]).counts.flagged


def test_scores_are_normalised_subtask_by_subtask_and_go_below_nought() -> None:
    """(50 − 50)/(100 − 50) and (25 − 0)/(100 − 0), with the bounds of the paper."""
    answered = records({"a": [100, 0], "b": [100, 0, 0, 0]})
    score = scored(answered, floors={"a": Floor(50.0, 60.0, 55.0), "b": Floor(0.0, 20.0, 45.0)})
    assert score.normalized == pytest.approx((0 + 25) / 2)
    assert score.chance.value == pytest.approx((-25 + 6.25) / 2)
    assert score.floor == Floor(25.0, 40.0, 50.0)
    assert score.lower_bound == 25.0
    one, other = (np.var(points, ddof=1) / len(points) for points in ([100, 0], [100, 0, 0, 0]))
    assert score.normalized_stderr == pytest.approx(np.sqrt(4 * one + other) / 2)
    assert score.by_subtask["b"].value == 25.0


def test_a_benchmark_of_which_something_is_missing_does_not_bear_its_name() -> None:
    assert label("bbh", 27, 0) == "bbh"
    part = scored(records({"a": [100], "b": [0]}), missing=("c", "d"))
    assert (part.label, part.name, part.missing) == ("bbh (2 of 4)", "bbh (2 of 4)/cot", ("c", "d"))
    skipped = [record("a/0"), record("b/0", None, status="skipped")]
    assert (scored(skipped).label, scored(skipped).missing) == ("bbh (1 of 2)", ("b",))
    assert scored(records({"a": [100]}), floors=floors("a", "b")).missing == ("b",)


def test_an_average_is_the_papers_where_all_its_members_are_whole_and_nothing_else_is_in() -> None:
    members = [whole(name) for name in PAPER]
    assert average(members).is_papers
    assert average(members).name == "normalised average"
    part = scored(records({"a": [100, 0]}), missing=("b",))
    others = {
        "one is missing": members[:-1],
        "one too many": [*members, whole("gsm8k/cot")],
        "one twice": [*members, members[0]],
        "one in part": [*members[:3], part, *members[4:]],
        "one partly right": [scored(records({"a": [30.5]}), benchmark="mmlu", setting="direct"), *members[1:]],
    }
    assert {why: average(scores).is_papers for why, scores in others.items()} == dict.fromkeys(others, False)
    assert average(members[:2]).name == "normalised average of mmlu/direct, mmlu/cot"
    assert "bbh (1 of 2)/cot" in average(others["one in part"]).name


def test_an_average_knows_its_error_with_items_shared_and_not_shared() -> None:
    same = average([whole("mmlu/direct"), whole("mmlu/cot")])
    other = average([whole("mmlu/direct"), whole("bbh/cot")])
    assert same.stderr == pytest.approx(whole("mmlu/direct").normalized_stderr)
    assert other.stderr == pytest.approx(same.stderr / math.sqrt(2))
    with pytest.raises(ConfigError, match="at least one score"):
        average([])


def test_an_average_says_how_many_items_were_too_long() -> None:
    skipped = scored([*records({"a": [100]}), record("a/long", None, status="skipped")])
    assert average([skipped, whole("mmlu/cot"), skipped]).skipped == 2


def test_the_score_without_contaminated_items_stands_beside_the_other() -> None:
    known = ("contaminated",)
    answered = [*records({"a": [0, 100], "b": [0]}), record("a/seen", flags=known), record("c/seen", flags=known)]
    score = scored(answered)
    assert score.clean is not None
    assert (score.score, score.counts.contaminated) == (pytest.approx((200 / 3 + 0 + 100) / 3), 2)
    assert (score.clean.score, score.clean.n, score.clean.label) == (25.0, 3, "bbh (2 of 3)")
    assert scored(records({"a": [0]})).clean is None
    assert scored([record("a/0", flags=known)]).clean is None


@pytest.mark.parametrize(
    ("answered", "changed", "error", "told"),
    [
        ([record("a/0"), record("a/0")], {}, ConfigError, "bbh/cot: 1 items have several records.*'a/0'"),
        ([record("a/0", scores={"f1": 1.0})], {}, ConfigError, "'a/0' has no metric 'exact'; it has f1"),
        ([record("a/0", None, status="skipped")], {}, DataError, "no item has a score .1 of 1 items were skipped"),
        ([], {}, DataError, "no item has a score"),
        ([record("a/0")], {"floors": floors("b")}, DataError, "no lower bound of subtask 'a'; there are those of b"),
        ([record("a/0")], {"floors": floors("a", chance=100)}, DataError, "always right on subtask 'a'"),
    ],
)
def test_records_that_give_no_score_are_one_clear_line(
    answered: list[Record], changed: dict[str, Any], error: type[UserError], told: str
) -> None:
    with pytest.raises(error, match=told) as raised:
        scored(answered, **changed)
    assert "\n" not in str(raised.value)
