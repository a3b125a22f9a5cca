"""What is the whole of Flan 2022 as the paper finetunes on it? CoT, Muffin, T0-SF and NIV2 under one roof.

The official default test tasks of Super-NaturalInstructions are held out and leave the training groups, their data
here or not: a study needs tasks that it never trains on. The paper itself trains on all 1,836 and evaluates on
benchmarks instead (Chung et al. 2022, section 2.3). Every task of the catalogue is in exactly one of `groups`,
`reserved` and `missing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flanscale.errors import DataError, nearest
from flanscale.tasks.catalog import COUNTS, catalogued, read_catalog
from flanscale.tasks.on_disk import no_folder
from flanscale.tasks.task import Collection, Ordinary, Skips, Task


@dataclass(frozen=True)
class Flan(Ordinary):
    """The union of collections of the catalogue; those not among the members count as missing."""

    members: Sequence[Collection]
    skips: Skips = field(default_factory=Skips)
    """The members' own, where they share one."""
    name: str = "flan"

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        if not names or len(set(names)) < len(names) or not set(names) <= set(COUNTS):
            raise DataError(f"flan is made of {names}; expected some of {', '.join(COUNTS)}, each once")

    @cached_property
    def _ordered(self) -> list[Collection]:
        return sorted(self.members, key=lambda member: list(COUNTS).index(member.name))

    @cached_property
    def _owners(self) -> dict[str, Collection]:
        """Task name → the member that loads it."""
        return {
            task: member
            for member in self._ordered
            for tasks in (*member.groups.values(), member.held_out)
            for task in tasks
        }

    @property
    def groups(self) -> dict[str, list[str]]:
        return {group: list(tasks) for member in self._ordered for group, tasks in member.groups.items()}

    @property
    def held_out(self) -> list[str]:
        return [task for member in self._ordered for task in member.held_out]

    @property
    def reserved(self) -> dict[str, str]:
        return {task: why for member in self._ordered for task, why in member.reserved.items()}

    @cached_property
    def missing(self) -> dict[str, str]:
        present = {member.name: member for member in self.members}
        missing: dict[str, str] = {}
        for name in COUNTS:
            if name in present:
                missing |= present[name].missing
            else:
                missing |= dict.fromkeys(catalogued(name), no_folder(name))
        return missing

    def category(self, name: str) -> str:
        return self._owner(name).category(name)

    def fingerprint(self, name: str) -> str:
        return self._owner(name).fingerprint(name)

    def task(self, name: str) -> Task:
        return self._owner(name).task(name)

    def _owner(self, name: str) -> Collection:
        if name in self._owners:
            return self._owners[name]
        if name in self.missing:
            raise DataError(f"task {name} of flan has no data here: {self.missing[name]}")
        raise DataError(f"no task {name!r} in flan{nearest(name, [row.task for row in read_catalog()])}")
