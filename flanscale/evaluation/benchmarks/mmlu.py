"""MMLU (Hendrycks et al. 2021): 57 subjects, four options; how does a model choose one?

direct         writes the letter, after five worked examples of the dev split
cot            reasons and then gives the letter, after the worked examples of mmlu-cot.json
letters        the most likely of (A), (B), (C), (D), behind the prompt of `direct`
cloze          the most likely of the options' texts, of which none is shown
zero_shot_cot  reasons without worked examples

Chung et al. (2022) score `direct` and `cot` on the val split in all tables but 1 and 4 (appendix D.1). Their direct
prompts are not published; one of the authors says (google-research/FLAN, issue 23) that they are those of
jasonwei20/flan-2, mmlu-cot.json, without the reasoning. So questions are written as that file writes them: the subject
named, all options on one line, no blank line inside a question and no space around it or an option.

`cloze` has the words of lighteval's cloze MMLU (huggingface/smollm, text/evaluation/tasks.py), by which SmolLM2 was
measured: no worked examples, options compared by the log-probability of a character. That is per_byte here, the same
for the Latin text that nearly all of MMLU is. The neutral prompts are a question's last line alone, as in Brown et al.
(2020), section 2.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from flanscale.errors import DataError
from flanscale.evaluation.extraction import chosen_letter, concluded
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.subtasks import by_subtask, check_shots, majority
from flanscale.tasks import benchmark_files as files
from flanscale.tasks.benchmark_files import LETTERS, THINK, MultipleChoice

SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology",
    "college_chemistry", "college_computer_science", "college_mathematics", "college_medicine",
    "college_physics", "computer_security", "conceptual_physics", "econometrics", "electrical_engineering",
    "elementary_mathematics", "formal_logic", "global_facts", "high_school_biology", "high_school_chemistry",
    "high_school_computer_science", "high_school_european_history", "high_school_geography",
    "high_school_government_and_politics", "high_school_macroeconomics", "high_school_mathematics",
    "high_school_microeconomics", "high_school_physics", "high_school_psychology", "high_school_statistics",
    "high_school_us_history", "high_school_world_history", "human_aging", "human_sexuality",
    "international_law", "jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing",
    "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition", "philosophy",
    "prehistory", "professional_accounting", "professional_law", "professional_medicine",
    "professional_psychology", "public_relations", "security_studies", "sociology", "us_foreign_policy",
    "virology", "world_religions",
)  # fmt: skip
QUESTIONS = {"val": 1_531, "test": 14_042}
MOST_SHOTS = 5
COT_SOURCE = "https://github.com/jasonwei20/flan-2"

Opening = tuple[str, tuple[str, ...]]
"""Preamble and worked examples of a subject."""


def benchmark(folder: Path) -> Benchmark:
    """MMLU of the files in `folder`."""
    return Benchmark("mmlu", 1, SETTINGS, partial(_read, folder), splits=("val", "test"))


def _direct_answer(text: str, item: Item) -> str | None:
    return chosen_letter(text, item.listed)


def _reasoned_answer(text: str, item: Item) -> str | None:
    return chosen_letter((concluded(text) or "").removeprefix(":"), item.listed)


SETTINGS = (
    Setting("direct", 5, _direct_answer, max_new_tokens=32, stop=("\n",)),
    Setting("cot", 5, _reasoned_answer, max_new_tokens=512, stop=("\n\nQ:",)),
    Setting("letters", 5, neutral="A:"),
    Setting("cloze", 0, rank="per_byte", neutral="Answer:"),
    Setting("zero_shot_cot", 0, _reasoned_answer, max_new_tokens=512, stop=("\n\nQ:",)),
)


def _read(folder: Path, setting: str, shots: int, split: str) -> Asked:
    check_shots(f"mmlu/{setting}", shots, 0 if setting == "zero_shot_cot" else MOST_SHOTS)
    rows = by_subtask(files.mmlu(folder, split), lambda row: row.subject, SUBJECTS, folder / split)
    openings = _worked(folder, shots) if setting == "cot" else _from_dev(folder, setting, shots)
    here = {subject: rows[subject] for subject in rows if subject in openings}
    items = {
        subject: [_item(setting, split, row, openings[subject]) for row in asked] for subject, asked in here.items()
    }
    if not items:
        raise DataError(f"{folder}: no subject of its split {split} has worked examples there")
    return Asked(
        tuple(item for asked in items.values() for item in asked),
        floors={
            subject: Floor(25.0, 100.0 / len(LETTERS), majority(item.references[0] for item in asked))
            for subject, asked in items.items()
        },
        missing=tuple(subject for subject in SUBJECTS if subject not in items),
        notes=_notes(split, shots, {subject: openings[subject] for subject in items}, sum(map(len, rows.values()))),
    )


def _notes(split: str, shots: int, openings: Mapping[str, Opening], questions: int) -> tuple[str, ...]:
    notes = []
    if fewer := [subject for subject, (_, worked) in openings.items() if len(worked) < shots]:
        most = max(len(openings[subject][1]) for subject in fewer)
        notes.append(f"{files.MMLU_COT} has {most} worked examples, not {shots}, of {', '.join(fewer)}.")
    if len(openings) == len(SUBJECTS) and questions != QUESTIONS[split]:
        notes.append(
            f"The {split} split here has {questions:,} questions, not the {QUESTIONS[split]:,} that are published."
        )
    return tuple(notes)


def _worked(folder: Path, shots: int) -> dict[str, Opening]:
    """The first worked examples with their reasoning; where fewer are published, those."""
    if not (path := folder / files.MMLU_COT).is_file():
        raise DataError(f"{path}: no such file; mmlu/cot asks with the worked examples in it, from {COT_SOURCE}")
    return {
        worked.subtask: (f"{worked.opening}\n\n", tuple(f"{shot}\n\n" for shot in worked.shots[:shots]))
        for worked in files.mmlu_cot(folder)
    }


def _from_dev(folder: Path, setting: str, shots: int) -> dict[str, Opening]:
    """The first questions of the dev split with their answers."""
    if not shots:
        return {subject: (_preamble(setting, subject), ()) for subject in SUBJECTS}
    openings = {}
    for subject, rows in by_subtask(
        files.mmlu(folder, "dev"), lambda row: row.subject, SUBJECTS, folder / "dev"
    ).items():
        if len(rows) < shots:
            path = folder / "dev" / f"{subject}_dev.csv"
            raise DataError(f"{path}: {len(rows)} questions, but {shots} worked examples are asked for")
        shown = tuple(f"{_question(setting, row)}{_answers(setting, row)[row.answer]}\n\n" for row in rows[:shots])
        openings[subject] = (_preamble(setting, subject), shown)
    return openings


def _item(setting: str, split: str, row: MultipleChoice, opening: Opening) -> Item:
    answers = _answers(setting, row)
    cloze, ranked = setting == "cloze", setting in ("letters", "cloze")
    return Item(
        key=f"{split}/{row.subject}/{row.place}",
        subtask=row.subject,
        prompt=Prompt(*opening, _question(setting, row)),
        references=(answers[row.answer].strip() if cloze else row.letter,),
        options=answers if ranked else (),
        gold=row.answer if ranked else None,
        listed=() if cloze else _options(row),
    )


def _preamble(setting: str, subject: str) -> str:
    about = subject.replace("_", " ")
    if setting == "cloze":
        return f"The following are questions about {about}.\n"
    return f"The following are multiple choice questions (with answers) about {about}.\n\n"


def _question(setting: str, row: MultipleChoice) -> str:
    asked = _tidy(row.question)
    if setting == "cloze":
        return f"Question: {asked}\nAnswer:"
    listed = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, _options(row), strict=True))
    return f"Q: {asked}\n{listed}\nA:" + (f" {THINK}" if setting.endswith("cot") else "")


def _answers(setting: str, row: MultipleChoice) -> tuple[str, ...]:
    """What may follow the question."""
    return tuple(f" {text}" for text in (_options(row) if setting == "cloze" else (f"({x})" for x in LETTERS)))


def _options(row: MultipleChoice) -> tuple[str, ...]:
    return tuple(map(_tidy, row.options))


def _tidy(text: str) -> str:
    return re.sub(r"\n\s*\n", "\n", text.strip())
