"""What is there to learn from, and how does the model see it? The verbs `flanscale tasks list` and `… show`.

The catalogue is a list of names; what of it lies on this disk is another number, told where a data folder is given.
`collection=` lists another collection: what it has, what it lacks, and what of it the catalogue has not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flanscale.errors import DataError, nearest
from flanscale.orchestration.planning.sheet import Column, Sheet, plain
from flanscale.tasks.catalog import COUNTS, CatalogRow, read_catalog

if TYPE_CHECKING:
    from flanscale.schema import RunConfig
    from flanscale.tasks.task import Collection, Task

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a disk has of one task."""

    state: str
    """One of `PRESENT`, `HELD_OUT`, `MISSING` and `UNCATALOGUED`."""
    why: str = ""
    rows: int | None = None
    """In the files, where the collection counts them."""


app = typer.Typer(help="Browse, fetch and prepare tasks.", no_args_is_help=True)

PRESENT, HELD_OUT, MISSING, UNCATALOGUED = "on disk", "held out", "missing", "uncatalogued"
MOST_SHOWN_CHARS = 3_000
MOST_COUNTED_EXAMPLES = 1_000

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Hydra overrides, e.g. data.root=<folder>, tokenizer=t5, mixture.exemplars=2, cot=true",
        show_default=False,
    ),
]


@app.command("list")
def list_tasks(
    overrides: Overrides = None,
    collection: Annotated[str | None, typer.Option(help=f"only one group, of {', '.join(COUNTS)}")] = None,
    category: Annotated[str | None, typer.Option(help="only categories that hold this text")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="only tasks without data, and what to do about it")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """List the paper's 1,836 tasks, which of them data.root=<folder> has, or those of another collection=<name>."""
    run = compose_loosely(overrides) if overrides else None
    if run is not None and _is_chosen(overrides) and run.collection.name not in (*COUNTS, "flan"):
        where = run.collection.name
        rows, found = _of_collection(run)
    else:
        where, rows, found = "the catalogue", read_catalog(), None
    groups = dict.fromkeys(row.collection for row in rows)
    if collection is not None and collection not in groups:
        raise DataError(f"--collection {collection}: {where} has {', '.join(groups)}{nearest(collection, groups)}")
    if found is None and run is not None:
        found = _on_disk(run)
    rows = [row for row in rows if collection in (None, row.collection)]
    rows = [row for row in rows if category is None or category.lower() in row.category.lower()]
    if missing and found is None:
        raise DataError(
            "--missing compares with a data folder: give data.root=<folder>, or data.niv2=<folder> and so on"
        )
    shown = [row for row in rows if not missing or (found and found[row.task].state == MISSING)]
    if as_json:
        print(json.dumps([_as_json(row, found) for row in shown], indent=1, ensure_ascii=False))
        return
    if missing and found:
        for row in shown:
            print(f"{row.collection}  {row.task}: {found[row.task].why}")
    else:
        print(plain(_table(shown, found)))
    print()
    print(plain(_totals(rows, found)))


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="TASK", help="a task's name")],
    overrides: Overrides = None,
    examples: Annotated[int, typer.Option(min=0, help="how many of its examples")] = 3,
) -> None:
    """Show a task's facts, some examples as the model will see them, and their tokens where a tokenizer is given."""
    run = compose_loosely(overrides or [])
    row, collection = _find(task, run, overrides or [])
    if row is not None:
        _print_facts(dataclasses.asdict(row))
    if collection is None:
        _print_facts({"data": "no folder given; data.root=<folder> shows examples"})
        return
    if task in collection.missing:
        _print_facts({"data": f"{MISSING}: {collection.missing[task]}"})
        return
    loaded = collection.task(task)
    _print_facts(_facts(loaded, collection, row))
    if loaded.examples and examples:
        (_print_questions if task in collection.held_out else _print_examples)(loaded, run, examples)
        _print_wrong_answer(collection, task)
    if loaded.examples and any(text.startswith("tokenizer") for text in overrides or []):
        _print_tokens(loaded, run)


@app.command()
def check(overrides: Overrides = None) -> None:
    """Read every task of a collection, held-out ones too, and say what is wrong with them, by file and line."""
    from flanscale.tasks.checking import faults
    from flanscale.tasks.registry import open_collection

    run = compose_loosely(overrides or [])
    collection = open_collection(run.collection, run.data, skip_bad=True, cache=run.paths.cache)
    names = _names(collection)
    wrong = list(faults(collection, names))
    print("\n".join([*wrong, f"{len(names):,} tasks of {collection.name}, {len(wrong):,} faults"]))
    if wrong:
        raise typer.Exit(1)


# --- what is on disk ------------------------------------------------------------------------------------------------


def compose_loosely(overrides: Sequence[str]) -> RunConfig:
    """The configuration of a cell with these overrides; what they leave open is what fits any collection."""
    from flanscale.config.compose import Composer

    tokenizer = [] if any(text.startswith("tokenizer=") for text in overrides) else ["tokenizer=bytes"]
    return Composer().compose([*tokenizer, "evaluation.asks=[held_out/direct]", *overrides])


def _names(collection: Collection) -> list[str]:
    """Its tasks with data, those held out last."""
    return [*(task for group in collection.groups.values() for task in group), *collection.held_out]


def _is_chosen(overrides: Sequence[str] | None) -> bool:
    return any(text.startswith("collection=") for text in overrides or ())


def _on_disk(run: RunConfig) -> dict[str, Found]:
    """Task of the catalogue → what the data folders have of it."""
    from flanscale.schema import CollectionConfig
    from flanscale.tasks.registry import open_collection

    flan = open_collection(CollectionConfig(name="flan"), run.data, skip_bad=True)
    found = {task: Found(PRESENT) for tasks in flan.groups.values() for task in tasks}
    found |= {task: Found(HELD_OUT if task in flan.held_out else MISSING, why) for task, why in flan.reserved.items()}
    found |= {task: Found(MISSING, why) for task, why in flan.missing.items()}
    flan.skips.log_to(log)
    return found


def _of_collection(run: RunConfig) -> tuple[list[CatalogRow], dict[str, Found]]:
    """(a row for every task that a collection has or lacks, group after group; task → what is here of it)."""
    from flanscale.tasks.registry import open_collection
    from flanscale.tasks.rendered import Rendered

    opened = open_collection(run.collection, run.data, skip_bad=True, cache=run.paths.cache)
    group_of = {task: group for group, tasks in opened.groups.items() for task in tasks}
    found = {task: Found(PRESENT) for task in group_of}
    found |= {task: Found(HELD_OUT) for task in opened.held_out}
    rows = {task: _own_row(group, task, opened.category(task)) for task, group in group_of.items()}
    if isinstance(opened, Rendered):
        found |= {task: Found(UNCATALOGUED, why) for task, why in opened.uncatalogued.items()}
        found = {task: dataclasses.replace(here, rows=opened.entry(task)["rows"]) for task, here in found.items()}
        for task in opened.uncatalogued:
            entry = opened.entry(task)
            rows[task] = _own_row(entry["group"], task, opened.category(task), ", ".join(entry["names"]))
        rows |= {row.task: row for row in read_catalog()}
    found |= {task: Found(MISSING, why) for task, why in opened.missing.items()}
    rows = {task: rows.get(task) or _own_row(opened.name, task) for task in found}
    groups = list(dict.fromkeys((*COUNTS, *(row.collection for row in rows.values()))))
    opened.skips.log_to(log)
    return sorted(rows.values(), key=lambda row: groups.index(row.collection)), found


def _own_row(group: str, task: str, category: str = "", dataset: str = "") -> CatalogRow:
    """What is known of a task that the catalogue has not: no membership."""
    return CatalogRow(group, task, dataset, category, task_type="", licence="", membership="", note="")


def _find(name: str, run: RunConfig, overrides: Sequence[str]) -> tuple[CatalogRow | None, Collection | None]:
    """A task's row, where it has one, and its collection, where one was asked for or its data folder was given.

    Raises:
        DataError: no such task.
    """
    from flanscale.tasks.registry import open_collection

    row = next((row for row in read_catalog() if row.task == name), None)
    chosen = _is_chosen(overrides)
    skip_bad = run.mixture.skip_bad
    if row is not None and not chosen:
        if not any(text.startswith("data.") for text in overrides):
            return row, None
        config = dataclasses.replace(run.collection, name=row.collection, split="flan")
        return row, open_collection(config, run.data, skip_bad=skip_bad)
    collection = open_collection(run.collection, run.data, skip_bad=skip_bad, cache=run.paths.cache)
    known = [*_names(collection), *collection.uncatalogued]
    if name not in known and name not in collection.missing:
        others = [] if chosen else [row.task for row in read_catalog()]
        where = f"of {collection.name}" if chosen else f"in the catalogue or of {collection.name}"
        raise DataError(f"no task {name!r} {where}{nearest(name, [*others, *known])}")
    return row, collection


# --- what is printed ------------------------------------------------------------------------------------------------


def _table(rows: Sequence[CatalogRow], found: dict[str, Found] | None) -> Sheet:
    """A line a task, the longest columns last."""
    here = [found[row.task] if found else Found("") for row in rows]
    titles = ("collection", "data", "rows", "membership", "task", "category", "dataset")
    return Sheet(
        [Column(title, right=title == "rows", optional=title in ("data", "rows", "membership")) for title in titles],
        [
            (row.collection, of.state, _number(of.rows), row.membership, row.task, row.category, row.dataset)
            for row, of in zip(rows, here, strict=True)
        ],
    )


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _as_json(row: CatalogRow, found: dict[str, Found] | None) -> dict[str, str | int | None]:
    here = found[row.task] if found else None
    facts = {**dataclasses.asdict(row), "data": here and here.state, "why": here and here.why}
    return facts if here is None or here.rows is None else {**facts, "rows": here.rows}


def _totals(rows: Sequence[CatalogRow], found: dict[str, Found] | None) -> Sheet:
    """How many are catalogued and, another number, how many are on disk: a line a collection, and their sum."""
    counted = found is not None and any(here.rows is not None for here in found.values())
    titles = ("catalogued", *(("on disk", "of these held out", "missing") if found else ()))
    titles += ("uncatalogued", "rows") if counted else ()
    lines = []
    for name in [*dict.fromkeys(row.collection for row in rows), "all"]:
        mine = [row for row in rows if name in (row.collection, "all")]
        numbers = [sum(bool(row.membership) for row in mine)]
        if found:
            states = [found[row.task].state for row in mine]
            numbers += [states.count(PRESENT) + states.count(HELD_OUT), states.count(HELD_OUT), states.count(MISSING)]
            numbers += [states.count(UNCATALOGUED), sum(found[row.task].rows or 0 for row in mine)] if counted else []
        lines.append((name, *(f"{number:,}" for number in numbers)))
    return Sheet([Column("collection"), *(Column(title, right=True) for title in titles)], lines)


def _facts(task: Task, collection: Collection, row: CatalogRow | None) -> dict[str, str]:
    references = [len(example.references) for example in task.examples]
    rationales = sum(example.rationale is not None for example in task.examples)
    options = sum(bool(example.options) for example in task.examples)
    return {
        "collection": "" if row else task.collection,
        "category": "" if row else task.category,
        "dataset": "" if row else task.dataset,
        "licence": "" if row and row.licence else task.licence,
        "data": _state(task.name, collection),
        "examples": f"{len(task.examples):,}",
        "references": f"{min(references)} to {max(references)} an example" if max(references, default=1) > 1 else "",
        "with rationale": f"{rationales:,}" if rationales else "",
        "with options": f"{options:,}" if options else "",
        "exemplars": str(len(task.exemplars)) if task.exemplars else "",
        "style": task.style,
        "fingerprint": collection.fingerprint(task.name),
    }


def _state(name: str, collection: Collection) -> str:
    if why := collection.uncatalogued.get(name):
        return f"{UNCATALOGUED}: {why}"
    return HELD_OUT if name in collection.held_out else PRESENT


def _prompts(task: Task, run: RunConfig, indices: Iterable[int]) -> list[tuple[int, str, str]]:
    """(index, input, target) of examples as a training run with this configuration draws them."""
    from flanscale.tasks.registry import open_wordings
    from flanscale.tasks.templates import draw_form, render

    wordings = open_wordings(run.mixture.templates, run.data)
    prompts = []
    for index in indices:
        choice = int.from_bytes(hashlib.sha256(f"{task.name}/{index}".encode()).digest()[:8], "big") >> 1
        form = draw_form(task, task.examples[index], run.mixture, cot=run.cot, choice=choice)
        prompt = render(task, index, form, choice, wordings)
        prompts.append((index, prompt.input, prompt.target))
    return prompts


def _print_examples(task: Task, run: RunConfig, count: int) -> None:
    for index, question, answer in _prompts(task, run, _spread(len(task.examples), count)):
        _print_pair(f"example {index + 1:,} of {len(task.examples):,}: {task.examples[index].id}", question, answer)


def _print_questions(task: Task, run: RunConfig, count: int) -> None:
    """Of a task that is held out: as an evaluation with this configuration asks them."""
    from flanscale.evaluation.benchmarks.held_out import questions
    from flanscale.tasks.registry import open_wordings

    items = questions(task, open_wordings(run.mixture.templates, run.data), run.mixture.exemplars)
    for place in _spread(len(items), count):
        item = items[place]
        _print_pair(f"question {place + 1:,} of {len(items):,}: {item.key}", item.prompt.text(), item.references[0])


def _spread(there: int, most: int) -> list[int]:
    """So many places, evenly."""
    count = min(most, there)
    return [i * there // count for i in range(count)]


def _print_pair(title: str, question: str, answer: str) -> None:
    print(f"\n── {title}, input")
    print(_shortened(question))
    print("── target")
    print(_shortened(answer))


def _print_wrong_answer(collection: Collection, name: str) -> None:
    from flanscale.tasks.niv2 import Niv2

    if isinstance(collection, Niv2) and (wrong := collection.negative_examples(name)):
        print("\n── an answer that its authors call wrong (never shown to the model), input")
        print(_shortened(wrong[0].input))
        print(f"── wrong target\n{_shortened(wrong[0].target)}")
        print(f"── why\n{_shortened(wrong[0].fields.get('explanation', ''))}")


def _print_tokens(task: Task, run: RunConfig) -> None:
    from flanscale.pipeline.spelling import unspelt, warning
    from flanscale.pipeline.tokenizers import load_tokenizer
    from flanscale.pipeline.vocabulary import find_vocabulary

    config = run.tokenizer
    if config.name not in ("words", "bytes"):
        found = find_vocabulary(config.vocabulary, near=run.data.niv2, root=run.data.root, tokenizer=config.name)
        config = dataclasses.replace(config, vocabulary=str(found))
    tokenizer = load_tokenizer(config)
    prompts = _prompts(task, run, range(min(len(task.examples), MOST_COUNTED_EXAMPLES)))
    print(f"\ntokens of {len(prompts):,} examples ({config.name})")
    columns = [Column(""), *(Column(title, right=True) for title in ("min", "median", "max", "with unknown"))]
    rows = []
    for kind, texts in (("input", [asked for _, asked, _ in prompts]), ("target", [answer for *_, answer in prompts])):
        tokens = tokenizer.encode(texts)
        lengths, unknown = tokens.lengths.tolist(), unspelt(tokens, tokenizer.unknown_id)
        told = (min(lengths), statistics.median(lengths), max(lengths), unknown)
        rows.append((kind, *(f"{number:,.0f}" for number in told)))
    print(plain(Sheet(columns, rows)))
    if line := warning({task.name: unknown / len(prompts)}, 1):
        print(line)


def _print_facts(facts: Mapping[str, str]) -> None:
    """A line for every fact that there is."""
    for name, value in facts.items():
        if value:
            print(f"{name:<16}{value}")


def _shortened(text: str) -> str:
    more = len(text) - MOST_SHOWN_CHARS
    return text if more <= 0 else f"{text[:MOST_SHOWN_CHARS]}\n… ({more:,} more characters)"
