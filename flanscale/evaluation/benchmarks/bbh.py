"""BIG-Bench Hard (Suzgun et al. 2022): 27 subtasks; does a model solve them directly, or better by reasoning?

cot            reasons after three worked examples: the subtask's published prompt to the character
direct         answers after the same examples, of which only the answers are shown
zero_shot_cot  reasons after the instruction alone

Of the published direct prompts 25 come out to the character. They hold no second paragraph of the instruction (snarks
has one, a definition that helps to reason). Two have a slip in a worked example that the files do not have, and here
they do not either: date_understanding lists 01/03/1961 for 01/03/1963, which is the right answer, and
tracking_shuffled_objects_three_objects has "the" as "thehg sy".

The published data has slips of its own, which stay: snarks/88 is cut off in its first option, and the right answers of
one item of movie_recommendation and two of ruin_names are texts with commas that were torn into several options.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flanscale.errors import DataError
from flanscale.evaluation.extraction import concluded, first_line
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.subtasks import by_subtask, check_shots, majority, of_other_sizes
from flanscale.tasks import benchmark_files as files
from flanscale.tasks.benchmark_files import THINK, BbhExample, Worked

PAPER_FLOORS = {
    "boolean_expressions": 50.0,
    "causal_judgement": 50.0,
    "date_understanding": 17.2,
    "disambiguation_qa": 33.2,
    "dyck_languages": 1.2,
    "formal_fallacies": 50.0,
    "geometric_shapes": 11.6,
    "hyperbaton": 50.0,
    "logical_deduction_five_objects": 20.0,
    "logical_deduction_seven_objects": 14.3,
    "logical_deduction_three_objects": 33.3,
    "movie_recommendation": 25.0,
    "multistep_arithmetic_two": 0.0,
    "navigate": 50.0,
    "object_counting": 0.0,
    "penguins_in_a_table": 0.0,
    "reasoning_about_colored_objects": 11.9,
    "ruin_names": 25.0,
    "salient_translation_error_detection": 16.7,
    "snarks": 50.0,
    "sports_understanding": 50.0,
    "temporal_sequences": 25.0,
    "tracking_shuffled_objects_five_objects": 20.0,
    "tracking_shuffled_objects_seven_objects": 14.3,
    "tracking_shuffled_objects_three_objects": 33.3,
    "web_of_lies": 50.0,
    "word_sorting": 0.0,
}
"""Not printed in Chung et al. (2022): with these their normalised averages of T5 and Flan-T5 come out within 0.05."""
SUBTASKS = tuple(PAPER_FLOORS)
ITEMS = dict.fromkeys(SUBTASKS, 250) | {"causal_judgement": 187, "penguins_in_a_table": 146, "snarks": 178}
"""That are published of each."""
MOST_SHOTS = 3
_TWO_ANSWERS_UNLISTED = ("boolean_expressions", "sports_understanding", "web_of_lies")
_OPTION = re.compile(r"^(?:\([A-Z]\)|- )", re.MULTILINE)


def benchmark(folder: Path) -> Benchmark:
    """BBH of the files in `folder`."""
    return Benchmark("bbh", 1, SETTINGS, partial(_read, folder))


def _direct_answer(text: str, item: Item) -> str | None:
    return first_line(text)


def _reasoned_answer(text: str, item: Item) -> str | None:
    return concluded(text)


SETTINGS = (
    Setting("direct", 3, _direct_answer, max_new_tokens=80, stop=("\n",)),
    Setting("cot", 3, _reasoned_answer, max_new_tokens=512, stop=("\n\nQ:",)),
    Setting("zero_shot_cot", 0, _reasoned_answer, max_new_tokens=512, stop=("\n\nQ:",)),
)


def _read(folder: Path, setting: str, shots: int, split: str) -> Asked:
    check_shots(f"bbh/{setting}", shots, 0 if setting == "zero_shot_cot" else MOST_SHOTS)
    rows = by_subtask(files.bbh(folder), lambda row: row.subtask, SUBTASKS, folder / "bbh")
    prompts = {worked.subtask: worked for worked in files.bbh_cot(folder)}
    here = {subtask: rows[subtask] for subtask in rows if subtask in prompts}
    if not here:
        raise DataError(f"{folder / 'cot-prompts'}: no prompt there of a subtask in {folder / 'bbh'}")
    items = []
    for subtask, examples in here.items():
        preamble, shown = _opening(prompts[subtask], setting, shots, folder)
        for row in examples:
            prompt = Prompt(preamble, shown, f"Q: {row.input}\nA:" + ("" if setting == "direct" else f" {THINK}"))
            items.append(Item(f"{subtask}/{row.place}", subtask, prompt, (row.target,)))
    return Asked(
        tuple(items),
        floors={subtask: _floor(subtask, examples) for subtask, examples in here.items()},
        missing=tuple(subtask for subtask in SUBTASKS if subtask not in here),
        notes=of_other_sizes({subtask: len(examples) for subtask, examples in here.items()}, ITEMS),
    )


def _opening(worked: Worked, setting: str, shots: int, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Preamble and the first worked examples."""
    if len(worked.shots) < shots:
        path = folder / "cot-prompts" / f"{worked.subtask}.txt"
        raise DataError(f"{path}: {len(worked.shots)} worked examples, but {shots} are asked for")
    shown = worked.shots[:shots]
    if setting != "direct":
        return f"{worked.opening}\n\n", tuple(f"{shot}\n\n" for shot in shown)
    asked = [shot.partition(f"\nA: {THINK}")[0] for shot in shown]
    answers = tuple(f"{question}\nA: {concluded(shot)}\n\n" for question, shot in zip(asked, shown, strict=True))
    instruction, *_ = worked.opening.split("\n\n")
    return f"{instruction}\n\n", answers


def _floor(subtask: str, examples: Sequence[BbhExample]) -> Floor:
    counts = [_options(row) for row in examples]
    chance = sum(100.0 / count for count in counts if count) / len(counts)
    return Floor(PAPER_FLOORS[subtask], chance, majority(row.target for row in examples))


def _options(row: BbhExample) -> int:
    """Among how many answers the right one is; 0 where it is free."""
    _, listed, options = row.input.rpartition("\nOptions:\n")
    if not listed:
        return 2 if row.subtask in _TWO_ANSWERS_UNLISTED else 0
    return len(_OPTION.findall(options))
