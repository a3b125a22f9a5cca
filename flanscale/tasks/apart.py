"""What does a cell learn from where another collection asks it? Everything but the tasks that are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from flanscale.tasks.task import Collection, Skips, Task


@dataclass(frozen=True)
class Apart:
    """A collection without some training tasks, which count neither as there nor as missing."""

    whole: Collection
    kept_out: Mapping[str, str]
    """Task → why it is not trained on; those that the collection does not have change nothing."""

    @property
    def name(self) -> str:
        return self.whole.name

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        return {
            group: [task for task in tasks if task not in self.kept_out] for group, tasks in self.whole.groups.items()
        }

    @property
    def held_out(self) -> list[str]:
        return self.whole.held_out

    @property
    def reserved(self) -> dict[str, str]:
        known = {task for tasks in self.whole.groups.values() for task in tasks} | set(self.whole.missing)
        here = {task: why for task, why in self.kept_out.items() if task in known}
        return {**self.whole.reserved, **here}

    @property
    def fixed_rationales(self) -> bool:
        return self.whole.fixed_rationales

    @property
    def uncatalogued(self) -> Mapping[str, str]:
        return self.whole.uncatalogued

    @cached_property
    def missing(self) -> dict[str, str]:
        return {task: why for task, why in self.whole.missing.items() if task not in self.kept_out}

    @property
    def skips(self) -> Skips:
        return self.whole.skips

    def category(self, name: str) -> str:
        return self.whole.category(name)

    def fingerprint(self, name: str) -> str:
        return self.whole.fingerprint(name)

    def task(self, name: str) -> Task:
        return self.whole.task(name)
