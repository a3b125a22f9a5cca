"""What does one cell learn from? Its tasks, the share of each in what is drawn, and how often that repeats each.

Chung et al. 2022, appendix E: groups have fixed proportions, a task's weight inside its group is its number of
examples, capped (after Raffel et al. 2020). Only names and numbers here: texts are the collections' and templates'.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flanscale.errors import DataError
from flanscale.schema import MixtureConfig
from flanscale.tasks.selection import check_proportions, group_of, select_tasks, some_of
from flanscale.tasks.task import Collection, Example, Task
from flanscale.tasks.validation import split_validation

__all__ = [
    "Mixture",
    "MixtureTable",
    "build_mixture",
    "group_of",
    "realised",
    "select_tasks",
    "split_validation",
    "task_weights",
    "weigh",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The tasks of one cell in numbers; all sequences have one item a task."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    requested: int
    sizes: np.ndarray  # int64: training examples, after all that is left out
    weights: np.ndarray  # float64: share of the draws; they sum to one


def build_mixture(
    collection: Collection, config: MixtureConfig, *, cot: bool, clean: Callable[[Task], Task] | None = None
) -> tuple[Mixture, list[Task], list[Sequence[Example]]]:
    """(mixture, its tasks' training parts, their held-in parts), every task loaded: for texts made on demand.

    Args:
        clean: leaves out of a task what must not be trained on, before its parts are split and counted.

    Raises:
        DataError: as `select_tasks`, `weigh` and the collection's `task`.
    """
    names = select_tasks(collection, config, cot=cot)
    tasks = [task if clean is None else clean(task) for task in map(collection.task, names)]
    parts = [split_validation(task, config) for task in tasks]
    mixture = weigh(collection, names, [len(training.examples) for training, _ in parts], config)
    return mixture, [training for training, _ in parts], [held_in for _, held_in in parts]


def weigh(collection: Collection, names: Sequence[str], sizes: Sequence[int], config: MixtureConfig) -> Mixture:
    """The mixture of selected tasks, whose training examples have been counted.

    Raises:
        DataError: a task has no examples (with `allow_missing` it has weight nought instead), or as `task_weights`.
    """
    group = group_of(collection)
    empty = [name for name, size in zip(names, sizes, strict=True) if not size]
    if empty:
        told = f"{len(empty)} of {len(names)} tasks of {collection.name} have no training examples: {some_of(empty)}"
        if not config.allow_missing:
            raise DataError(f"{told}; set mixture.allow_missing=true to go on without them")
        log.warning("%s; going on without them", told)
    groups = tuple(group[name] for name in names)
    return Mixture(tuple(names), groups, config.count, np.asarray(sizes, np.int64), task_weights(groups, sizes, config))


def task_weights(groups: Sequence[str], sizes: Sequence[int], config: MixtureConfig) -> np.ndarray:
    """Share of each task in the draws, float64 [T]; they sum to one within 1e-12.

    Inside a group a task weighs its examples up to the cap, that to the power 1/temperature, or as much as the others.
    Groups get their `proportions`, renormalised over those present; without any, they weigh what their tasks weigh.

    Args:
        groups: the group of each task.
        sizes: training examples of each task.

    Raises:
        DataError: a group present has no proportion or one that is not positive, or no task has examples.
    """
    if not groups:
        return np.zeros(0)
    present = list(dict.fromkeys(groups))
    caps = np.array([config.caps.get(group, config.max_per_task) for group in groups])
    mass = np.minimum(np.asarray(sizes), caps).astype(np.float64)
    if config.weighting == "temperature":
        mass **= 1 / config.temperature
    elif config.weighting == "equal":
        mass = (mass > 0).astype(np.float64)
    if config.proportions:
        check_proportions(present, config)
        place = np.array([present.index(group) for group in groups])
        in_group = np.bincount(place, mass, len(present))
        share = np.array([config.proportions[group] for group in present], np.float64)
        mass *= np.divide(share, in_group, out=np.zeros_like(share), where=in_group > 0)[place]
    if not mass.any():
        raise DataError(f"none of the {len(groups)} tasks of the mixture has training examples")
    return mass / mass.sum()


# --- what a mixture comes to -----------------------------------------------------------------------------------------


def realised(mixture: Mixture, draws: float, tokens_per_draw: np.ndarray | None = None) -> MixtureTable:
    """What is expected of each task when `draws` examples are drawn.

    Args:
        tokens_per_draw: mean tokens (input and target) of one draw of each task, [T], where known.
    """
    return MixtureTable(mixture, float(draws), tokens_per_draw)


@dataclass(frozen=True)
class GroupTotal:
    """A group's part of a mixture; `max_epochs` is of its most repeated task."""

    group: str
    tasks: int
    examples: int
    share: float
    draws: float
    tokens: float | None
    max_epochs: float


@dataclass(frozen=True, eq=False)
class MixtureTable:
    """A mixture with its expected draws; for the log, for `mixture.json` and for the logged keys."""

    mixture: Mixture
    total_draws: float
    tokens_per_draw: np.ndarray | None = None

    @cached_property
    def draws(self) -> np.ndarray:
        """Expected draws of each task, [T]."""
        return self.mixture.weights * self.total_draws

    @cached_property
    def epochs(self) -> np.ndarray:
        """How often each example of a task is expected to be seen, [T]."""
        return self.draws / np.maximum(self.mixture.sizes, 1)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal characters over names and weights (to twelve digits, alike on all machines)."""
        pairs = [[name, f"{w:.11e}"] for name, w in zip(self.mixture.names, self.mixture.weights, strict=True)]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]

    @cached_property
    def totals(self) -> list[GroupTotal]:
        """The groups in the order in which they come."""
        group = np.array(self.mixture.groups)
        return [self._total(name, group == name) for name in dict.fromkeys(self.mixture.groups)]

    def _total(self, group: str, of: np.ndarray) -> GroupTotal:
        tokens = None if self.tokens_per_draw is None else float(self.draws[of] @ self.tokens_per_draw[of])
        return GroupTotal(
            group,
            tasks=int(np.count_nonzero(self.mixture.weights[of])),
            examples=int(self.mixture.sizes[of].sum()),
            share=float(self.mixture.weights[of].sum()),
            draws=float(self.draws[of].sum()),
            tokens=tokens,
            max_epochs=float(self.epochs[of].max()),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One object a task for `mixture.json`."""
        columns: dict[str, Sequence[Any]] = {
            "task": self.mixture.names,
            "group": self.mixture.groups,
            "examples": self.mixture.sizes.tolist(),
            "weight": self.mixture.weights.tolist(),
            "draws": self.draws.tolist(),
            "epochs": self.epochs.tolist(),
        }
        if self.tokens_per_draw is not None:
            columns["tokens"] = (self.draws * self.tokens_per_draw).tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def logged(self) -> dict[str, float]:
        """The keys of the logging contract; `mixture/tasks` is the realised count."""
        return {
            "mixture/tasks": sum(total.tasks for total in self.totals),
            "mixture/tasks_requested": self.mixture.requested,
            "mixture/examples": int(self.mixture.sizes.sum()),
            "mixture/max_epochs": max((total.max_epochs for total in self.totals), default=0.0),
            **{f"mixture/share/{total.group}": total.share for total in self.totals},
        }

    def lines(self) -> list[str]:
        """The totals, a line a group."""
        head = (
            f"mixture {self.fingerprint}: {self.logged()['mixture/tasks']:,} tasks of {self.mixture.requested:,} asked"
            f" for, {self.mixture.sizes.sum():,} examples, {self.total_draws:,.0f} draws expected"
        )
        return [head, *(_line(total) for total in self.totals)]

    @property
    def warning(self) -> str | None:
        """One sentence where a task's examples are seen more than once, which the paper avoids (appendix E)."""
        repeated = int(np.count_nonzero(self.epochs > 1 + 1e-9))
        if not repeated:
            return None
        worst = int(np.argmax(self.epochs))
        return (
            f"{repeated:,} of {len(self.epochs):,} tasks are repeated: {self.mixture.names[worst]} is seen"
            f" {self.epochs[worst]:.3g} times ({self.mixture.sizes[worst]:,} examples, {self.draws[worst]:,.0f} draws),"
            " where the paper repeats none; train fewer steps, on more examples, or with other mixture.proportions"
        )

    def log_to(self, log: logging.Logger) -> None:
        """Log the totals, and warn of repetition."""
        for line in self.lines():
            log.info("%s", line)
        if self.warning:
            log.warning("%s", self.warning)


def _line(total: GroupTotal) -> str:
    tokens = "" if total.tokens is None else f"  {total.tokens:,.0f} tokens"
    return (
        f"  {total.group:<12}{total.tasks:>6,} tasks{total.examples:>12,} examples{total.share:>8.2%}"
        f"{total.draws:>14,.0f} draws{tokens}  at most {total.max_epochs:.3g} epochs"
    )
