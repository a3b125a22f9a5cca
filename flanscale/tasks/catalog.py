"""Which 1,836 tasks did the paper finetune on? Their names and facts, whether or not their data is here.

`catalog.csv` beside this module holds facts only; `flanscale.tasks.make_catalog` builds it and states the rules.
What of it lies on a disk is another number: a collection's `groups`, `held_out` and `missing` tell it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CATALOG_FILE = Path(__file__).with_name("catalog.csv")
COUNTS = {"cot": 9, "muffin": 80, "t0sf": 193, "niv2": 1554}
"""Tasks of each collection (Chung et al. 2022, appendix F), in the order in which the paper adds them."""
WITHOUT_RATIONALES = ("niv2", "t0sf", "muffin")
"""Those none of whose tasks bears rationales."""


@dataclass(frozen=True)
class CatalogRow:
    """One task. `membership` is `documented` by FLAN's own tables, or a `reading` that `note` explains."""

    collection: str
    task: str
    dataset: str
    category: str
    task_type: str
    licence: str
    """The source's words; empty where it was not to be had."""
    membership: str
    note: str


def read_catalog() -> list[CatalogRow]:
    """Every task, in the paper's order: cot, muffin, t0sf, niv2."""
    return list(_rows())


@cache
def catalogued(collection: str) -> dict[str, CatalogRow]:
    """Task name → row of one collection, in catalogue order; empty for collections that the paper has not."""
    return {row.task: row for row in _rows() if row.collection == collection}


@cache
def _rows() -> tuple[CatalogRow, ...]:
    with CATALOG_FILE.open(encoding="utf-8", newline="") as file:
        return tuple(CatalogRow(**row) for row in csv.DictReader(file))
