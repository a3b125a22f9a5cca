"""What does one cell learn from? Its tasks, their sampling weights and the form of every drawn example.

A task's weight is its number of examples, capped (Chung et al. 2022, appendix F, after Raffel et al. 2020).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

from flanscale.schema import MixtureConfig
from flanscale.tasks.task import Collection, DataError, Task
from flanscale.tasks.templates import Prompt, render

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixture:
    """The tasks of one cell with what is needed to draw and render their examples."""

    tasks: Sequence[Task]
    requested: int
    cot_share: float
    exemplars: int
    max_per_task: int

    @property
    def sizes(self) -> list[int]:
        """Examples of each task."""
        return [len(task.examples) for task in self.tasks]

    @property
    def weights(self) -> list[float]:
        """Sampling weight of each task; they sum to one."""
        capped = [min(size, self.max_per_task) for size in self.sizes]
        return [size / sum(capped) for size in capped]

    def prompt(self, task: int, example: int, choice: int) -> Prompt:
        """The text of one draw; `choice` (63 random bits) settles the wording and whether the rationale is shown."""
        drawn = self.tasks[task].examples[example]
        cot = drawn.rationale is not None and (choice & 0xFFFFFF) < self.cot_share * (1 << 24)
        return render(self.tasks[task], drawn, template=choice >> 24, cot=cot, exemplars=self.exemplars)


def select_tasks(collection: Collection, config: MixtureConfig) -> list[str]:
    """Names of the first `config.count` training tasks in the configured order; subsets of one order are nested.

    Raises:
        DataError: the collection holds fewer and `allow_missing` is off.
    """
    names = [name for group in collection.groups.values() for name in group]
    if config.order == "random":
        random.Random(config.order_seed).shuffle(names)
    if config.count > len(names):
        shortage = (
            f"mixture.count={config.count}, but {collection.name} has {len(names)} training tasks here"
            f" ({len(collection.missing)} of its list have no data, e.g. {', '.join(collection.missing[:3]) or 'none'})"
        )
        if not config.allow_missing:
            raise DataError(f"{shortage}; lower the count or set mixture.allow_missing=true")
        log.warning("%s; going on with %d", shortage, len(names))
    return names[: config.count]


def build_mixture(collection: Collection, config: MixtureConfig, *, cot: bool) -> Mixture:
    """Load the tasks of one cell.

    Raises:
        DataError: too few tasks, or one without data, malformed or empty.
    """
    tasks = [collection.task(name) for name in select_tasks(collection, config)]
    for task in tasks:
        if not task.examples:
            raise DataError(f"task {task.name} of {collection.name} has no examples")
    return Mixture(tasks, config.count, config.cot_fraction if cot else 0.0, config.exemplars, config.max_per_task)
