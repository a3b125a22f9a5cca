"""How well does a model do tasks that it was never trained on? A collection's held-out tasks, a subtask each.

Questions are worded as in training, in the form of evaluation, the wordings taking turns over a task's examples
(`flanscale.tasks.templates`). Worked examples are the task's own; where it has none, as in one's own files, its first
examples serve, which are then not asked themselves, in any setting of as many shots. An answer is what follows the last
answer mark; a direct one without mark is the whole text, a rationale that never comes to its mark has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from flanscale.errors import DataError
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.tasks.catalog import WITHOUT_RATIONALES
from flanscale.tasks.task import Collection, Example, Task
from flanscale.tasks.templates import Wordings, evaluation_form, extract_answer, render

VERSION = 1
_METRICS = {"procedural": ("exact_match",), **dict.fromkeys(("niv2", "flan"), ("rouge_l", "exact_match"))}
"""The headline of Super-NaturalInstructions is ROUGE-L (Wang et al. 2022); of one's own tasks it is exact match."""


def benchmark(
    collection: Collection, wordings: Wordings, *, exemplars: int = 0, direct_tokens: int = 32, cot_tokens: int = 64
) -> Benchmark:
    """The collection's held-out tasks, under its name; nothing is read yet.

    Args:
        exemplars: worked examples before a question, where nothing else is asked for.
        direct_tokens: most new tokens of a direct answer.
        cot_tokens: most new tokens of a rationale with its answer.
    """
    metrics = _METRICS.get(collection.name, ("exact_match", "rouge_l"))
    direct = Setting("direct", exemplars, _direct_answer, metrics, direct_tokens)
    cot = Setting("cot", exemplars, _answer_behind_rationale, metrics, cot_tokens)
    return Benchmark(
        collection.name,
        VERSION,
        settings=(direct,) if collection.name in WITHOUT_RATIONALES else (direct, cot),
        read=partial(_read, collection, wordings),
        in_order=True,
    )


def questions(task: Task, wordings: Wordings, shots: int) -> list[Item]:
    """What is asked of one held-out task, for a direct answer.

    Raises:
        DataError: it has no examples.
    """
    with_examples, asked = _with_worked_examples(task, shots)
    return _items(with_examples, asked, False, shots, wordings)


def _direct_answer(text: str, item: Item) -> str | None:
    answer = extract_answer(text, cot=False)
    return answer if answer or "" in item.references else None


def _answer_behind_rationale(text: str, item: Item) -> str | None:
    return extract_answer(text, cot=True) or None


def _read(collection: Collection, wordings: Wordings, setting: str, shots: int, split: str) -> Asked:
    names = collection.held_out
    if not names:
        raise DataError(f"{collection.name} has no held-out task with data here, so nothing can be evaluated")
    read = [collection.task(name) for name in names]
    shown = [_with_worked_examples(task, shots) for task in read]
    items = [item for task, asked in shown for item in _items(task, asked, setting == "cot", shots, wordings)]
    return Asked(
        tuple(items),
        _floors(items),
        missing=tuple(name for name in collection.reserved if name not in names),
        notes=(*_notes(read, [task for task, _ in shown], shots), *_inside(items, shots, wordings)),
        categories={task.name: task.category for task in read if task.category not in ("", "unknown")},
    )


def _with_worked_examples(task: Task, shots: int) -> tuple[Task, Sequence[int]]:
    """(the task with worked examples that are not asked, the places of its examples that are).

    Raises:
        DataError: it has no examples.
    """
    examples = list(task.examples)
    if not examples:
        raise DataError(f"held-out task {task.name} has no examples")
    task = replace(task, examples=examples)
    if task.exemplars or not shots:
        return task, range(len(examples))
    in_order = sorted(range(len(examples)), key=lambda place: examples[place].rationale is None)
    worked = in_order[: min(shots, len(examples) - 1)]
    exemplars = tuple(examples[place] for place in worked)
    return replace(task, exemplars=exemplars), sorted(set(range(len(examples))) - set(worked))


def _items(task: Task, asked: Sequence[int], cot: bool, shots: int, wordings: Wordings) -> list[Item]:
    form = evaluation_form(cot, min(shots, len(task.exemplars)))
    ids = _ids(task.examples)
    items = []
    for place in asked:
        text = render(task, place, form, place, wordings)
        prompt = Prompt(text.preamble, text.shots, text.question)
        items.append(Item(f"{task.name}/{ids[place]}", task.name, prompt, task.examples[place].references))
    return items


def _ids(examples: Sequence[Example]) -> list[str]:
    """An id of its own for each example: where an earlier one has its id, with its number, from 1, behind it.

    Examples that are added to a task change no id of those before them.
    """
    ids: dict[str, None] = {}
    for number, example in enumerate(examples, start=1):
        own = example.id
        while own in ids:
            own += f"#{number}"
        ids[own] = None
    return list(ids)


def _floors(items: Sequence[Item]) -> dict[str, Floor]:
    by_task: dict[str, list[Item]] = {}
    for item in items:
        by_task.setdefault(item.subtask, []).append(item)
    return {
        task: Floor(paper=0.0, chance=0.0, majority=100.0 * _most_frequent(asked) / len(asked))
        for task, asked in by_task.items()
    }


def _most_frequent(items: Sequence[Item]) -> int:
    """How many of the items the answer gets right that is right most often."""
    return max(Counter(answer for item in items for answer in set(item.references)).values())


def _notes(read: Sequence[Task], shown: Sequence[Task], shots: int) -> tuple[str, ...]:
    borrowed = [task.name for task, own in zip(shown, read, strict=True) if task.exemplars and not own.exemplars]
    short = [task.name for task in shown if len(task.exemplars) < shots]
    notes = []
    if borrowed:
        notes.append(
            f"{_some(borrowed, read)} no worked examples: the first {shots} of their examples, those with a rationale"
            " before others, are shown before the rest and not asked"
        )
    if short:
        notes.append(f"{_some(short, read)} fewer than {shots} worked examples, and are asked with what they have")
    return tuple(notes)


def _inside(items: Sequence[Item], shots: int, wordings: Wordings) -> Sequence[str]:
    """What is to be said where some of FLAN's templates for one worked example have it inside the question."""
    inside = sum(not item.prompt.shots for item in items)
    if shots != 1 or wordings.flan is None or not inside:
        return ()
    return (
        f"{inside:,} of {len(items):,} prompts have no worked example, or in the question itself, as FLAN words it",
    )


def _some(names: Sequence[str], of: Sequence[Task]) -> str:
    named = ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])
    return f"{len(names)} of {len(of)} held-out tasks ({named}) have"
