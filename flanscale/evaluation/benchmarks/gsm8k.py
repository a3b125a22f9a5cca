"""GSM8K (Cobbe et al. 2021): problems of grade-school mathematics in English, whose answers are numbers.

    cot            Q: <problem> A: <solution>, as Wei et al. (2022) prompt; 8 shots
    direct         the same without solutions (their figure 1); 8 shots
    zero_shot_cot  A: Let's think step by step. (Kojima et al. 2022), without their second prompt; no shots

The shots are the first problems of train.jsonl, without the calculator's << >>, not the eight that Wei et al. wrote.
An answer ends before the model's next "Q:", a direct one also at the end of its line; the last number there counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from flanscale.errors import DataError
from flanscale.evaluation import subtasks
from flanscale.evaluation.extraction import before
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.numbers import last_number
from flanscale.tasks import benchmark_files as files

NAME = "gsm8k"
PROBLEMS = 1319
NEXT = ("Q:",)
LINE = ("\n", *NEXT)


def benchmark(folder: Path) -> Benchmark:
    settings = (
        Setting("cot", 8, _number, max_new_tokens=320, stop=NEXT),
        Setting("direct", 8, _number_in_line, max_new_tokens=32, stop=LINE),
        Setting("zero_shot_cot", 0, _number, max_new_tokens=320, stop=NEXT),
    )
    return Benchmark(NAME, 1, settings, partial(_read, folder))


def _read(folder: Path, setting: str, shots: int, split: str) -> Asked:
    path, train = folder / f"{split}.jsonl", folder / "train.jsonl"
    problems = list(files.gsm8k(folder, split))
    if not problems:
        raise DataError(f"{path}: no problem of GSM8K; expected lines of question and answer")
    worked = list(islice(files.gsm8k(folder, "train"), shots))
    if len(worked) < shots:
        raise DataError(f"{train}: {len(worked)} problems, but its first {shots} are the shots of gsm8k/{setting}")
    prompts = tuple(_shot(setting, problem, _reference(train, problem)) for problem in worked)
    items = tuple(
        Item(f"{split}/{problem.place}", NAME, Prompt("", prompts, _asked(setting, problem)), (reference,))
        for problem in problems
        for reference in [_reference(path, problem)]
    )
    majority = subtasks.majority(item.references[0] for item in items)
    return Asked(items, {NAME: Floor(0.0, 0.0, majority)}, notes=tuple(_notes(path, len(items))))


def _notes(path: Path, items: int) -> Iterator[str]:
    yield (
        "GSM8K's train split is among the chain-of-thought data of Chung et al. (2022): a model that has learned from"
        " it has seen problems of this form, and the shots themselves."
    )
    if items != PROBLEMS:
        yield f"{path} holds {items:,} problems; the published split has {PROBLEMS:,}."


def _asked(setting: str, problem: files.WordProblem) -> str:
    return f"Q: {problem.question}\nA:{f' {files.THINK}' if setting == 'zero_shot_cot' else ''}"


def _shot(setting: str, problem: files.WordProblem, answer: str) -> str:
    solution = re.sub(r"<<[^<>]*>>", "", problem.solution).strip()
    between = " " if setting == "direct" else f" {solution}\n"
    return f"{_asked(setting, problem)}{between}The answer is {answer}.\n\n"


def _reference(path: Path, problem: files.WordProblem) -> str:
    number = last_number(problem.answer)
    if number is None or not problem.solution.strip() or not problem.question.strip():
        raise DataError(f"{path}: problem {problem.place + 1}: expected a question, a solution, #### and a number")
    return number


def _number(text: str, item: Item) -> str | None:
    return last_number(before(text, NEXT))


def _number_in_line(text: str, item: Item) -> str | None:
    return last_number(before(text.lstrip(), LINE))
