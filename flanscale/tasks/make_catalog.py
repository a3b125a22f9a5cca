"""Where does the catalogue come from? Builds `catalog.csv` from FLAN's own tables and Super-NaturalInstructions' lists.

    python -m flanscale.tasks.make_catalog DATA_ROOT

DATA_ROOT holds `flan/` (flan_collection_info.csv, t0_train_tasks.json.gz, templates.json.gz, niv2_definitions.json.gz,
num_cases.json: the constant tables of google-research/FLAN, flan/v2) and `niv2/` (splits/, manifest.csv). Only names,
categories, counts and licences are taken. What makes 9 + 80 + 193 + 1,554:

- cot: the nine data sets of the table's source CoT; what it turns round of them are no tasks of their own.
- muffin: the table has 88 rows besides the inverted ones of Flan 2021 (72 of Flan 2021, 6 dialog, 10 program
  synthesis; the paper's own 62 + 26), but the paper counts 80 and lists none. Read as: the 8 input inversions of dialog
  and program synthesis are no tasks of their own, by the rule that makes 9 CoT tasks of the table's 36 rows.
- t0sf: P3 prompts whose data set is not in Flan 2021 (`in_flan` false), without `_score_eval`: 193, the same in FLAN's
  csv, code and table of cases. Data sets are the 22 real ones; FLAN's csv cuts prompt names and counts 55.
- niv2: all 1,613 tasks less the 57 copies of MMLU (FLAN's filter: numbers 664-667 and 685-737) are 1,556, the paper
  counts 1,554 and names none of the two. Read as: a task whose definition, positive example and number of examples in
  FLAN's metadata are those of an earlier task is that task again. That holds for exactly two (task128, task129).
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.tasks.catalog import CATALOG_FILE, COUNTS, CatalogRow

T0_DATASETS = (
    *("adversarial_qa", "amazon_polarity", "app_reviews", "cos_e", "dbpedia_14", "dream", "duorc"),
    *("kilt_tasks_hotpotqa", "qasc", "quail", "quarel", "quartz", "quoref", "race", "ropes", "sciq", "social_i_qa"),
    *("web_questions", "wiki_bio", "wiki_hop", "wiki_qa", "wiqa"),
)
MUFFIN_LICENCES = {"dart": "MIT", "e2e_nlg": "CC BY-SA 4.0"}  # of the repositories that publish them
NOT_RELEASED = ("dmcc_", "dr_repair_", "task_master")  # FLAN, flan/v2/README.md
INVERSION = "FLAN's table lists its input inversion too; the paper's 80 of 88 is read as counting no inversion"
NOT_IN_CODE = "in FLAN's table but not in its code"
FIRST_OF_TWINS = "{twin} equals it in FLAN's metadata; the paper's 1,554 of 1,556 is read as counting both once"


def build(root: Path) -> list[CatalogRow]:
    """The catalogue from a data folder.

    Raises:
        DataError: a table is missing, or the rules no longer give the paper's counts.
    """
    table = _csv(root / "flan" / "flan_collection_info.csv")
    rows = [*_cot(table), *_muffin(table, root), *_t0sf(table, root), *_niv2(table, root)]
    counts = {name: sum(row.collection == name for row in rows) for name in COUNTS}
    if counts != COUNTS:
        raise DataError(f"{root}: its tables give {counts}, the paper has {COUNTS}")
    return rows


def _cot(table: list[dict[str, str]]) -> Iterator[CatalogRow]:
    seen = set()
    for row in table:
        if row["Source"] == "CoT" and (name := row["Dataset"]) not in seen:  # a data set's inversions come after it
            seen.add(name)
            dataset = name.split("_", 1)[1]
            category = row["Generic Task Category"]
            note = "licence is that of FLAN's files"
            yield CatalogRow("cot", name, dataset, category, "chain_of_thought", "Apache-2.0", "documented", note)


def _muffin(table: list[dict[str, str]], root: Path) -> Iterator[CatalogRow]:
    patterns = _json(root / "flan" / "templates.json.gz")["PATTERNS"]
    in_code = _json(root / "flan" / "num_cases.json")
    rows = [row for row in table if row["Source"] in ("FLAN", "FLAN/T0", "Dialog", "Program Synthesis")]
    tasks: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["Generic Task Category"].startswith("Inverted"):
            continue
        name = row["Dataset"]
        if name == "mnli":  # one name for both of its evaluation sets
            name = "mnli_mismatched" if "mnli_matched" in tasks else "mnli_matched"
        tasks.setdefault(name, row)  # an inversion of dialog or program synthesis comes after its task
    for name, row in sorted(tasks.items()):
        inverted = row["Source"] in ("Dialog", "Program Synthesis")
        notes = [INVERSION] if inverted else [NOT_IN_CODE] if name not in in_code else []
        notes += ["FLAN could not release it"] if name.startswith(NOT_RELEASED) else []
        yield CatalogRow(
            "muffin",
            name,
            row["Dataset"],
            row["Generic Task Category"],
            "multiple_choice" if "options_}" in str(patterns[_pattern(name, patterns)]) else "generation",
            MUFFIN_LICENCES.get(name, ""),
            "reading" if inverted or name not in in_code else "documented",
            "; ".join(notes),
        )


def _pattern(name: str, patterns: dict[str, Any]) -> str:
    """The key of FLAN's templates that serves a task: the longest that its name begins with."""
    return max(
        (key for key in patterns if f"program_synthesis_{name}".startswith(key) or name.startswith(key)), key=len
    )


def _t0sf(table: list[dict[str, str]], root: Path) -> Iterator[CatalogRow]:
    prompts = _json(root / "flan" / "t0_train_tasks.json.gz")
    categories = {row["Specific Task Category"]: row["Generic Task Category"] for row in table if row["Source"] == "T0"}
    for name, prompt in prompts.items():
        if not prompt["in_flan"] and "_score_eval" not in name:
            (dataset,) = (known for known in T0_DATASETS if name.startswith(f"{known}_"))
            kind = prompt["task_type"].removeprefix("t0_")
            yield CatalogRow("t0sf", name, dataset, categories[name], kind, "", "documented", "")


def _niv2(table: list[dict[str, str]], root: Path) -> Iterator[CatalogRow]:
    facts = {row["Specific Task Category"]: row for row in table if row["Source"] == "NIv2"}
    licences = {row["task"]: row["instance_license"] for row in _csv(root / "niv2" / "manifest.csv")}
    lists = [root / "niv2" / "splits" / "default" / f"{part}_tasks.txt" for part in ("train", "test", "excluded")]
    names = [name for path in lists for name in _text(path).split()]
    twins = _twins(_json(root / "flan" / "niv2_definitions.json.gz"))
    later_of = {first: later for later, first in twins.items()}
    for name in sorted(names, key=lambda name: (int(re.findall(r"\d+", name)[0]), name)):
        if "_mmmlu_" in name or name in twins:
            continue
        fact = facts.get(_in_table(name))
        if fact is None:
            raise DataError(f"{name} is in the official lists of {root / 'niv2'}, but not in FLAN's table")
        later = later_of.get(name)
        yield CatalogRow(
            "niv2",
            name,
            fact["Dataset"],
            fact["Generic Task Category"],
            "instruction",
            licences.get(name, ""),
            "reading" if later else "documented",
            FIRST_OF_TWINS.format(twin=later) if later else "",
        )


def _in_table(name: str) -> str:
    """A task's name as FLAN's table writes it: no hyphens, cut at the first dot."""
    return name.split(".")[0].replace("-", "_")


def _twins(metadata: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Later → earlier of two differently named tasks with the same definition, example and number of examples."""
    first: dict[str, str] = {}
    twins = {}
    for name in sorted(metadata):
        earlier = first.setdefault(json.dumps(metadata[name], sort_keys=True), name)
        if _in_table(earlier) != _in_table(name):
            twins[name] = earlier
    return twins


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; DATA_ROOT is the folder of flan/ and niv2/") from error
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")


def _json(path: Path) -> Any:
    return json.loads(_text(path))


def _csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(path).splitlines()))


def write(rows: list[CatalogRow], path: Path) -> None:
    """Write the catalogue as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(CatalogRow))
        writer.writerows(dataclasses.astuple(row) for row in rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m flanscale.tasks.make_catalog DATA_ROOT")
    try:
        write(build(Path(sys.argv[1])), CATALOG_FILE)
    except DataError as error:
        raise SystemExit(f"make_catalog: {error}") from None
