"""What did a model score on a benchmark? One benchmark, setting and metric from its records, with errors and counts.

The score is the unweighted mean over subtasks of the mean over their items, in percent, as in Chung et al. 2022. An
item that holds no answer is wrong; one that was skipped, or has no reference, is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.estimate import Estimate, combined_stderr, macro_mean
from flanscale.evaluation.item import Floor
from flanscale.evaluation.records import ANSWERED, CONTAMINATED, NO_ANSWER, SKIPPED, Record

PAPER = ("mmlu/direct", "mmlu/cot", "bbh/direct", "bbh/cot", "tydiqa/direct", "mgsm/cot")
"""Members of the normalised average of Chung et al. 2022, appendix D; each is exact match over all its subtasks."""
MANY_FAILURES = 0.2


@dataclass(frozen=True)
class Counts:
    """What became of the items; each is a column of every table of scores."""

    asked: int
    answered: int
    failures: int
    """No answer was found."""
    skipped: int
    samples: int
    cut: int
    """Samples that reached the most new tokens."""
    dropped: int
    """Items that were asked with fewer shots than wanted, as the prompt was too long."""
    shots: float
    """The mean of those that were in the prompts of the items that were not skipped."""
    contaminated: int

    @property
    def failed(self) -> float:
        """The share of items without an answer among those that were not skipped."""
        return self.failures / max(self.answered + self.failures, 1)

    @property
    def flagged(self) -> bool:
        """So many answers were not found that the score says little about the rest."""
        return self.failed > MANY_FAILURES


@dataclass(frozen=True)
class Score:
    """One benchmark in one setting under one metric, in percent; errors are standard errors in points."""

    benchmark: str
    setting: str
    metric: str
    raw: Estimate
    by_subtask: Mapping[str, Estimate]
    paper: Estimate
    """Normalised subtask by subtask, then averaged, with the lower bounds of Chung et al. (2022)."""
    chance: Estimate
    """The same with the lower bounds that are counted from the data."""
    floor: Floor
    """The means over the subtasks."""
    missing: tuple[str, ...]
    """Subtasks of which nothing was scored."""
    counts: Counts
    clean: Score | None
    """Of the items that are not contaminated; None where all or none of them are."""

    @property
    def score(self) -> float:
        return self.raw.value

    @property
    def stderr(self) -> float:
        return self.raw.stderr

    @property
    def stderr_tasks(self) -> float:
        return self.raw.stderr_tasks

    @property
    def n(self) -> int:
        return self.raw.n

    @property
    def lower_bound(self) -> float:
        return self.floor.paper

    @property
    def normalized(self) -> float:
        """Negative below chance (Chung et al. 2022, footnote 5)."""
        return self.paper.value

    @property
    def normalized_stderr(self) -> float:
        return self.paper.stderr

    @property
    def label(self) -> str:
        """The benchmark's name in a table."""
        return label(self.benchmark, len(self.by_subtask), len(self.missing))

    @property
    def name(self) -> str:
        """That with the setting's, as averages name their members."""
        return f"{self.label}/{self.setting}"


@dataclass(frozen=True)
class Average:
    """The mean of several normalised scores, with what went into it."""

    score: float
    stderr: float
    chance: float
    """With the lower bounds that are counted from the data."""
    chance_stderr: float
    members: tuple[str, ...]
    is_papers: bool
    """Every member of the paper's average is there, whole, and nothing else."""
    skipped: int
    """Items that were too long to be asked."""

    @property
    def name(self) -> str:
        return "normalised average" if self.is_papers else f"normalised average of {', '.join(self.members)}"


def label(benchmark: str, here: int, missing: int) -> str:
    """A benchmark's name if all its subtasks are here, else with how many are: `bbh (24 of 27)`."""
    return f"{benchmark} ({here} of {here + missing})" if missing else benchmark


def aggregate(
    records: Sequence[Record],
    metric: str,
    *,
    benchmark: str,
    setting: str,
    floors: Mapping[str, Floor],
    missing: Sequence[str] = (),
) -> Score:
    """The score of one benchmark in one setting.

    Args:
        floors: by subtask, of all that could be asked; where nothing of one was scored, it is missing too.
        missing: subtasks of the whole benchmark that could not be asked.

    Raises:
        ConfigError: a record has no such metric, or two records are of one item.
        DataError: nothing was scored, a subtask has no lower bound, or one of 100.
    """
    named = f"{benchmark}/{setting}"
    counted = scored(records, metric, named)
    if not counted:
        why = f"{sum(record.status == SKIPPED for record in records)} of {len(records)} items were skipped"
        raise DataError(f"{named}: no item has a score ({why})")
    clean = [record for record in records if CONTAMINATED not in record.flags]
    partly = len(clean) < len(records) and any(record.scores for record in clean)
    by_subtask: dict[str, list[Record]] = {}
    for record in counted:
        by_subtask.setdefault(record.subtask, []).append(record)
    here = [_floor(name, floors, named) for name in by_subtask]
    return Score(
        benchmark,
        setting,
        metric,
        raw=_raw(counted, metric),
        by_subtask={name: _raw(members, metric) for name, members in by_subtask.items()},
        paper=_normalised(counted, metric, {name: floors[name].paper for name in by_subtask}),
        chance=_normalised(counted, metric, {name: floors[name].chance for name in by_subtask}),
        floor=Floor(
            paper=sum(floor.paper for floor in here) / len(here),
            chance=sum(floor.chance for floor in here) / len(here),
            majority=sum(floor.majority for floor in here) / len(here),
        ),
        missing=tuple(name for name in dict.fromkeys((*floors, *missing)) if name not in by_subtask),
        counts=_counts(records),
        clean=aggregate(clean, metric, benchmark=benchmark, setting=setting, floors=floors, missing=missing)
        if partly
        else None,
    )


def average(scores: Sequence[Score]) -> Average:
    """The mean of their normalised scores; settings of one benchmark share items, and its error knows that.

    Raises:
        ConfigError: there is none.
    """
    if not scores:
        raise ConfigError("an average needs at least one score")
    share = 1 / len(scores)
    return Average(
        score=share * sum(score.paper.value for score in scores),
        stderr=combined_stderr((share, _of_benchmark(score.benchmark, score.paper)) for score in scores),
        chance=share * sum(score.chance.value for score in scores),
        chance_stderr=combined_stderr((share, _of_benchmark(score.benchmark, score.chance)) for score in scores),
        members=tuple(score.name for score in scores),
        is_papers=sorted(score.name for score in scores) == sorted(PAPER) and all(score.raw.binary for score in scores),
        skipped=sum(score.counts.skipped for score in scores),
    )


def scored(records: Sequence[Record], metric: str, named: str) -> list[Record]:
    """The records that count under a metric.

    Raises:
        ConfigError: a record has no such metric, or two records are of one item.
    """
    twice = [key for key, count in Counter(record.key for record in records).items() if count > 1]
    if twice:
        raise ConfigError(f"{named}: {len(twice)} items have several records, the first of them {twice[0]!r}")
    counted = [record for record in records if record.scores]
    for record in counted:
        if metric not in record.scores:
            raise ConfigError(f"{named}: {record.key!r} has no metric {metric!r}; it has {', '.join(record.scores)}")
    return counted


def cluster_of(record: Record) -> Hashable:
    """What a record's item errs together with; the item alone where nothing is said."""
    return ("cluster", record.cluster) if record.cluster else ("item", record.key)


def mean_of(records: Sequence[Record], values: Sequence[float], *, binary: bool = False) -> Estimate:
    """The mean over subtasks of a value of each record."""
    return macro_mean(
        values, [record.subtask for record in records], [cluster_of(record) for record in records], binary=binary
    )


def _raw(records: Sequence[Record], metric: str) -> Estimate:
    points = [record.scores[metric] for record in records]
    return mean_of(records, points, binary=all(point in (0.0, 100.0) for point in points))


def _normalised(records: Sequence[Record], metric: str, low: Mapping[str, float]) -> Estimate:
    """Points above a subtask's lower bound, in percent of what it leaves up to 100."""
    bounds = [low[record.subtask] for record in records]
    pairs = zip(records, bounds, strict=True)
    return mean_of(records, [100 * (record.scores[metric] - bound) / (100 - bound) for record, bound in pairs])


def _floor(subtask: str, floors: Mapping[str, Floor], named: str) -> Floor:
    if (floor := floors.get(subtask)) is None:
        raise DataError(f"{named}: no lower bound of subtask {subtask!r}; there are those of {', '.join(floors)}")
    if max(floor.paper, floor.chance) >= 100:
        raise DataError(f"{named}: guessing is always right on subtask {subtask!r}, so its score says nothing")
    return floor


def _counts(records: Sequence[Record]) -> Counts:
    status = Counter(record.status for record in records)
    asked = [record for record in records if record.status != SKIPPED]
    samples = [sample for record in asked for sample in record.samples]
    return Counts(
        asked=len(records),
        answered=status[ANSWERED],
        failures=status[NO_ANSWER],
        skipped=status[SKIPPED],
        samples=len(samples),
        cut=sum(not sample.ended for sample in samples),
        dropped=sum(record.dropped > 0 for record in asked),
        shots=sum(record.shots for record in asked) / max(len(asked), 1),
        contaminated=sum(CONTAMINATED in record.flags for record in records),
    )


def _of_benchmark(benchmark: str, estimate: Estimate) -> dict[Hashable, float]:
    return {(benchmark, cluster): moved for cluster, moved in estimate.influence.items()}
