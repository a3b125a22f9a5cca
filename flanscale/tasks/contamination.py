"""Which training examples hold text of a held-out benchmark? Known copies, names, and overlap of n-grams.

Rules, in the order in which they are tried; docs/contamination.md says why each is as it is:
  niv2 copy   the 57 Super-NaturalInstructions tasks that are copies of MMLU
  name        a task whose name or source dataset is a benchmark's (NAMES)
  n-gram, whole text   an example whose input, references, rationale, options or fields overlap (see guard.py)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, overload

from flanscale.tasks.guard import Guard, Match, batches
from flanscale.tasks.task import Example, Task

MODES = ("drop", "warn", "off")
MMLU_COPIES = frozenset((*range(664, 668), *range(685, 738)))
"""Task numbers that FLAN's code leaves out of NIV2 (flan/v2/task_configs.py); the paper's footnote 4 says 44 tasks."""


@dataclass(frozen=True)
class NameRule:
    """A benchmark, and a pattern of what stands between underscores in the name of a copy; `basis`: who rules so."""

    benchmark: str
    pattern: str
    basis: str


NAMES = (
    NameRule("mmlu", "m?mmlu|hendrycks_?test|massive_multitask_language_understanding", "documented: FLAN, for NIV2"),
    NameRule("bbh", "bbh|big_?bench_hard", "reading: BBH is held out"),
    NameRule(
        "bbh",
        "causal_judge?ment|date_understanding|disambiguation_qa|dyck_languages|formal_fallacies|hyperbaton|"
        "penguins_in_a_table|reasoning_about_colored_objects|ruin_names|salient_translation_error_detection|snarks|"
        "sports_understanding|temporal_sequences|tracking_shuffled_objects|web_of_lies",
        "reading: subtasks that nothing else is called",
    ),
    NameRule(
        "bbh",
        "big_?bench_(boolean_expressions|geometric_shapes|logical_deduction|movie_recommendation|multistep_arithmetic|"
        "navigate|object_counting|word_sorting)",
        "reading: subtasks that other tasks may be called too",
    ),
    NameRule("mgsm", "mgsm", "reading: MGSM is held out"),
    NameRule("tydiqa", "tydi_?qa|tydi", "reading: TyDiQA is held out, its train split too"),
    NameRule(
        "gsm8k", "gsm8k_test", "documented: the train split is one of the paper's CoT sets; the test split is not"
    ),
    NameRule("open_ended", "user_oriented_instructions", "reading: the open-ended prompts are held out"),
)


@dataclass(frozen=True)
class Hit:
    """One training example that overlaps with one benchmark."""

    task: str
    collection: str
    example: str
    """Its id; * stands for every example of the task."""
    benchmark: str
    item: str
    ngram: str
    rule: str
    part: str = ""
    """Where in the task: input, reference, rationale, option, field, instruction or exemplar."""
    piece: str = ""
    """Where in the benchmark's item."""
    examples: int = 1
    """How many training examples this is about; an exemplar is none."""


def clean(task: Task, guard: Guard, mode: str) -> tuple[Task, list[Hit]]:
    """The task without its contaminated examples and exemplars (drop) or as it was (warn, off), and what overlaps.

    A task whose name or instruction is contaminated loses all examples, and may be left with none.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of {', '.join(MODES)}")
    if mode == "off":
        return task, []
    empty = replace(task, examples=(), exemplars=())
    if hit := copy_of_benchmark(task):
        return (empty if mode == "drop" else task), [hit]
    hits, owners = _overlaps(task, guard)
    if mode == "warn" or not owners:
        return task, hits
    if INSTRUCTION in owners:
        return empty, hits
    first = 1 + len(task.exemplars)
    exemplars = tuple(shot for owner, shot in enumerate(task.exemplars, start=1) if owner not in owners)
    kept = tuple(index for index in range(len(task.examples)) if first + index not in owners)
    return replace(task, examples=_Chosen(task.examples, kept), exemplars=exemplars), hits


def copy_of_benchmark(task: Task) -> Hit | None:
    """The hit of a task that is a benchmark's copy by number or by name: its texts need not be looked at."""
    count = len(task.examples)
    number = re.match(r"task(\d+)_", task.name)
    if task.collection == "niv2" and number and int(number[1]) in MMLU_COPIES:
        return Hit(task.name, task.collection, "*", "mmlu", "*", number[0][:-1], "niv2 copy", "name", examples=count)
    for source, part in ((task.name, "name"), (task.dataset, "dataset")):
        name = re.sub(r"[^a-z0-9]+", "_", source.lower())
        for rule in NAMES:
            if found := re.search(f"(?:^|_)({rule.pattern})(?:_|$)", name):
                return Hit(task.name, task.collection, "*", rule.benchmark, "*", found[1], "name", part, examples=count)
    return None


def report_lines(hits: Sequence[Hit]) -> list[str]:
    """A table for the log: training examples by benchmark, task and rule, most first, under each benchmark's total."""
    totals: Counter[str] = Counter()
    cells: Counter[tuple[str, str, str, str]] = Counter()
    for hit in hits:
        totals[hit.benchmark] += hit.examples
        cells[hit.benchmark, hit.collection, hit.task, hit.rule] += hit.examples
    lines = []
    for benchmark, total in totals.most_common():
        rows = [(cell, count) for cell, count in cells.most_common() if cell[0] == benchmark]
        lines.append(f"{benchmark}: {total:,} training examples; tasks: {len({cell[1:3] for cell, _ in rows})}")
        lines += [f"  {count:>7,}  {rule:<10}  {collection}/{task}" for (_, collection, task, rule), count in rows]
    return lines or ["no training example overlaps with a benchmark"]


def seen_items(overlaps: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Benchmark → its items that some training example overlaps with, of the rows of `report_rows`."""
    seen: dict[str, set[str]] = {}
    for overlap in overlaps:
        seen.setdefault(overlap["benchmark"], set()).add(overlap["item"])
    return seen


def report_rows(hits: Iterable[Hit]) -> list[dict[str, Any]]:
    """The hits as JSON objects."""
    return [asdict(hit) for hit in hits]


INSTRUCTION = 0  # owners of texts: the instruction, then exemplars, then examples


def _overlaps(task: Task, guard: Guard) -> tuple[list[Hit], set[int]]:
    """The hits, and which owners they are of."""
    parts = [[("instruction", task.instruction)], *map(_parts, task.exemplars), *map(_parts, task.examples)]
    hits, owners = [], set()
    for batch in batches(sum(len(text) for _, text in owned) for owned in parts):
        flat = [(owner, *part) for owner, owned in enumerate(parts[batch], start=batch.start) for part in owned]
        for match in guard.matches([text for _, _, text in flat], [owner for owner, _, _ in flat]):
            owners.add(match.owner)
            hits.append(_hit(task, match, flat[match.text][1]))
    return hits, owners


def _hit(task: Task, match: Match, part: str) -> Hit:
    shots = len(task.exemplars)
    if match.owner == INSTRUCTION:
        example, count = "*", len(task.examples)
    elif match.owner <= shots:
        example, part, count = task.exemplars[match.owner - 1].id, f"exemplar {part}", 0
    else:
        example, count = task.examples[match.owner - 1 - shots].id, 1
    source = match.source
    return Hit(
        task.name, task.collection, example, source.benchmark, source.item, match.ngram, match.rule, part,
        source.piece, count,
    )  # fmt: skip


def _parts(example: Example) -> list[tuple[str, str]]:
    """The texts of an example that a template may show; options and fields only where the input does not hold them."""
    parts = [("input", example.input), *(("reference", text) for text in example.references)]
    if example.rationale:
        parts.append(("rationale", example.rationale))
    further = [("option", text) for text in example.options] + [("field", text) for text in example.fields.values()]
    return parts + [(part, text) for part, text in further if text not in example.input]


@dataclass(frozen=True)
class _Chosen(Sequence[Example]):
    """Some items of a sequence, made when asked for as before."""

    examples: Sequence[Example]
    kept: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kept)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return _Chosen(self.examples, self.kept[index])
        return self.examples[self.kept[index]]
