"""Which tasks are the first `count`? The paper's order of groups, or a random one with chain of thought held fixed.

Grid semantics: a study's task counts are prefixes of one order, so a smaller mixture is inside every larger one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from flanscale.errors import DataError, nearest
from flanscale.schema import MixtureConfig
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.ordering import random_order, stratified_order
from flanscale.tasks.task import Collection

RATIONALE_GROUP = "cot"
"""The group whose tasks are there for their rationales, in collections that have one."""

log = logging.getLogger(__name__)


def select_tasks(collection: Collection, config: MixtureConfig, *, cot: bool) -> list[str]:
    """Names of the first `config.count` training tasks.

    order=paper: group after group; a task without data keeps its place (inside its group after those with data), so
    that a count means the same stage of the paper whatever data is here. order=random: a seeded draw from what is here,
    after the rationale-bearing group, which is wholly in or, at cot=false with without_cot=leave_out, wholly out; the
    order of the others is the same in both arms. Where a collection's texts are fixed with their rationales in them,
    cot=false always leaves that group out.

    Raises:
        DataError: fewer tasks than asked for and `allow_missing` is off, a count inside the fixed group, or a
            proportion or cap that does not fit the groups.
    """
    groups, missing = dict(collection.groups), collection.missing
    _check_group_names(collection.name, groups, config)
    leave_out = not cot and (collection.fixed_rationales or config.without_cot == "leave_out")
    if leave_out and config.without_cot != "leave_out" and config.count:
        log.warning(
            "cot=false leaves out the group %s of %s, whose texts are fixed with their rationales in them, as"
            " mixture.without_cot=leave_out does",
            RATIONALE_GROUP,
            collection.name,
        )
    left_out = groups.pop(RATIONALE_GROUP, []) if leave_out else []
    if config.order == "random":
        wanted = _random(collection, groups, config)[: config.count]
    else:
        wanted = _paper(groups, missing, skip=RATIONALE_GROUP if leave_out else None)[: config.count]
    chosen = [name for name in wanted if name not in missing]
    if len(chosen) < config.count:
        shortage = _shortage(collection, config, len(chosen), [name for name in wanted if name in missing], left_out)
        if not config.allow_missing:
            raise DataError(f"{shortage}; lower the count or set mixture.allow_missing=true")
        log.warning("%s; going on with %d", shortage, len(chosen))
    if config.proportions:
        check_proportions([group for group in groups if not set(chosen).isdisjoint(groups[group])], config)
    return chosen


def group_of(collection: Collection) -> dict[str, str]:
    """Training task → its group.

    Raises:
        DataError: two tasks have one name.
    """
    group_of: dict[str, str] = {}
    for group, names in collection.groups.items():
        for name in names:
            if name in group_of:
                raise DataError(f"{collection.name} has two tasks named {name}, in {group_of[name]} and in {group}")
            group_of[name] = group
    return group_of


def check_proportions(present: Sequence[str], config: MixtureConfig) -> None:
    """Every group that has tasks in the mixture needs a positive share.

    Raises:
        DataError: it has none.
    """
    for group in present:
        if group not in config.proportions:
            raise DataError(
                f"mixture.proportions has no share for {group}, whose tasks are in the mixture"
                f" (shares are given for {', '.join(config.proportions)}); add mixture.proportions.{group}=…"
            )
        share = config.proportions[group]
        if not (share > 0 and math.isfinite(share)):
            raise DataError(f"mixture.proportions.{group}={share}: expected a positive number")


def _paper(groups: Mapping[str, list[str]], missing: Iterable[str], *, skip: str | None) -> list[str]:
    """Every place in the paper's order: those without data in the group where the catalogue has them, else last."""
    places, unplaced = [], list(missing)
    for group in dict.fromkeys((*COUNTS, *groups)):
        absent = [name for name in unplaced if name in catalogued(group)]
        unplaced = [name for name in unplaced if name not in catalogued(group)]
        if group != skip:
            places += [*groups.get(group, ()), *absent]
    return places + unplaced


def _random(collection: Collection, groups: Mapping[str, list[str]], config: MixtureConfig) -> list[str]:
    fixed = groups[RATIONALE_GROUP] if groups.keys() > {RATIONALE_GROUP} else []
    if 0 < config.count < len(fixed):
        raise DataError(
            f"mixture.count={config.count} with order=random: the {len(fixed)} chain-of-thought tasks are in every"
            f" subset; ask for at least {len(fixed)}, or for cot=false with mixture.without_cot=leave_out"
        )
    others = [name for names in groups.values() if names is not fixed for name in names]
    if not config.stratify:
        return [*fixed, *random_order(others, config.order_seed)]
    return [*fixed, *stratified_order(others, [collection.category(name) for name in others], config.order_seed)]


def _shortage(
    collection: Collection, config: MixtureConfig, here: int, lacking: Sequence[str], left_out: Sequence[str]
) -> str:
    """How many tasks there are instead of `config.count`, and why no more."""
    text = f"mixture.count={config.count}, but {collection.name} has {here} training tasks for it here"
    if left_out:
        text += f" (its {len(left_out)} chain-of-thought tasks are out at cot=false)"
    if (reserved := collection.reserved) and here + len(lacking) < config.count:
        text += f"; {len(reserved)} are held out"
    if others := collection.uncatalogued:
        text += f"; names here that mean none of the paper's tasks: {len(others)}, e.g. {', '.join(list(others)[:3])}"
    if lacking := lacking or list(collection.missing):
        text += f"; {len(lacking)} have no data{_reasons(lacking, collection.missing)}"
    return text


def _reasons(lacking: Sequence[str], missing: Mapping[str, str]) -> str:
    """Why tasks are missing: the two commonest reasons, each as it is said of its first task, and where all stand."""
    alike: dict[str, list[str]] = {}
    for name in lacking:
        alike.setdefault(missing[name].replace(name, "…"), []).append(name)
    told = sorted(alike.values(), key=len, reverse=True)
    if len(told) == 1:
        text = [f" ({some_of(lacking)}): {missing[lacking[0]]}"]
    else:
        text = [": " + "; ".join(f"{len(names)} ({some_of(names)}): {missing[names[0]]}" for names in told[:2])]
    if others := sum(map(len, told[2:])):
        text.append(f"{others} for other reasons")
    if len(lacking) > 3:
        text.append("`flanscale tasks list --missing` with this data names them all")
    return "; ".join(text)


def some_of(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _check_group_names(collection: str, groups: Iterable[str], config: MixtureConfig) -> None:
    """Proportions and caps may name any of the paper's groups, so that one file serves every part of its collection."""
    known = list(dict.fromkeys((*groups, *COUNTS)))
    for knob, names in (("proportions", config.proportions), ("caps", config.caps)):
        for name in names:
            if name not in known:
                raise DataError(
                    f"mixture.{knob}.{name}: {collection} has no such group{nearest(name, known)}"
                    f" (groups here: {', '.join(groups)})"
                )
    for name, cap in config.caps.items():
        if cap < 1:
            raise DataError(f"mixture.caps.{name}={cap}: expected a number of examples, at least 1")
