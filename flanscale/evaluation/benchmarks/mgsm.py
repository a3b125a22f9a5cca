"""MGSM (Shi et al. 2022): the same 250 problems of GSM8K in ten languages, without the English originals.

    cot      Frage: <problem> Schritt-für-Schritt-Antwort: <solution>, all in the problem's language; 8 shots
    direct   Frage: <problem> Antwort: <number>; 8 shots

Chung et al. (2022, appendix D.4) ask `cot` with 8 shots. Exemplars, and the words before questions and solutions, are
those of exemplars.json, so that without shots a problem stands between the same words. That file has no words for
direct answers: Shi et al. (table 1) show the German one; the others here are what the exemplars call an answer.

An answer ends before the model's next question, a direct one also at the end of its line; the last number there counts.
Problems of one place are translations of each other, and so one cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

from flanscale.errors import DataError
from flanscale.evaluation import subtasks
from flanscale.evaluation.extraction import before
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.numbers import last_number
from flanscale.tasks import benchmark_files as files

ANSWERS = {
    "bn": "উত্তর",
    "de": "Antwort",
    "es": "Respuesta",
    "fr": "Réponse",
    "ja": "答え",
    "ru": "Ответ",
    "sw": "Jibu",
    "te": "సమాధానం",
    "th": "คำตอบ",
    "zh": "答案",
}
"""The word before a direct answer, by language: the ten of the benchmark."""
NEXT = (
    *("প্রশ্ন:", "Frage:", "Pregunta:", "Question :", "問題："),
    *("Задача:", "Swali:", "ప్రశ్న:", "โจทย์:", "问题："),
)
"""The words before a question, as exemplars.json has them."""
LINE = ("\n", *NEXT)
PROBLEMS = 250
"""In each language."""
DECIMAL_COMMA = frozenset({"de", "es", "fr", "ru"})
"""As the problems themselves are written; the other languages have a decimal point."""
NOTE = (
    "MGSM's problems are the first 250 of GSM8K's test split, translated: a result on the one is no second result on"
    " the other."
)


def benchmark(folder: Path) -> Benchmark:
    settings = (
        Setting("cot", 8, _number, max_new_tokens=512, stop=NEXT),
        Setting("direct", 8, _number_in_line, max_new_tokens=32, stop=LINE),
    )
    return Benchmark("mgsm", 1, settings, partial(_read, folder))


def _read(folder: Path, setting: str, shots: int, split: str) -> Asked:
    exemplars = files.mgsm_exemplars(folder)
    problems: dict[str, list[files.Problem]] = {}
    for problem in files.mgsm(folder):
        if problem.language in ANSWERS and exemplars.get(problem.language):
            problems.setdefault(problem.language, []).append(problem)
    if not problems:
        raise DataError(
            f"{folder}: expected mgsm_<language>.tsv of {', '.join(ANSWERS)}, and exemplars.json with theirs"
        )
    numbers = {language: [_reference(folder, problem) for problem in problems[language]] for language in problems}
    _check_translations(folder, numbers)
    items: list[Item] = []
    floors: dict[str, Floor] = {}
    for language, own in problems.items():
        question, answer = _words(folder, setting, language, exemplars[language][0])
        worked = _shots(folder, setting, language, exemplars[language], shots, answer)
        for problem, number in zip(own, numbers[language], strict=True):
            prompt = Prompt("", worked, f"{question}{problem.question}\n{answer}".rstrip())
            items.append(Item(f"{language}/{problem.place}", language, prompt, (number,), cluster=str(problem.place)))
        floors[language] = Floor(0.0, 0.0, subtasks.majority(numbers[language]))
    sizes = {language: len(own) for language, own in problems.items()}
    notes = (NOTE, *subtasks.of_other_sizes(sizes, dict.fromkeys(ANSWERS, PROBLEMS)))
    return Asked(tuple(items), floors, tuple(language for language in ANSWERS if language not in problems), notes)


def _words(folder: Path, setting: str, language: str, exemplar: files.Exemplar) -> tuple[str, str]:
    """What stands before a question and before an answer, with the colon and the space behind it."""
    question, answer = (re.match(r"[^:：]+?(\s?[:：]\s?)", text) for text in (exemplar.question, exemplar.solution))
    if not question or not answer:
        path = folder / "exemplars.json"
        raise DataError(f"{path}: MGSM_EXEMPLARS.{language}.1: expected words and a colon before q's and a's text")
    return question[0], answer[0] if setting == "cot" else f"{ANSWERS[language]}{question[1]}"


def _shots(
    folder: Path, setting: str, language: str, exemplars: Sequence[files.Exemplar], shots: int, answer: str
) -> tuple[str, ...]:
    if len(exemplars) < shots:
        path = folder / "exemplars.json"
        raise DataError(f"{path}: {len(exemplars)} exemplars of {language}; asked for {shots} shots")
    return tuple(
        f"{one.question}\n{one.solution if setting == 'cot' else answer + one.answer}\n\n" for one in exemplars[:shots]
    )


def _reference(folder: Path, problem: files.Problem) -> str:
    number = last_number(problem.answer, decimal_comma=problem.language in DECIMAL_COMMA)
    if number is None or not problem.question.strip():
        place = f"{folder / f'mgsm_{problem.language}.tsv'}:{problem.place + 1}"
        raise DataError(f"{place}: expected question, tab, number, found {problem.answer!r} behind the tab")
    return number


def _check_translations(folder: Path, numbers: Mapping[str, Sequence[str]]) -> None:
    """A file that was cut, or is of another edition, has other answers than the rest."""
    longest = max(numbers, key=lambda language: len(numbers[language]))
    for language, own in numbers.items():
        for place, (number, expected) in enumerate(zip_longest(own, numbers[longest])):
            if number != expected:
                line = f"{folder / f'mgsm_{language}.tsv'}:{place + 1}"
                found = "the file ends before the" if number is None else f"the answer is {number}, not that of the"
                raise DataError(f"{line}: {found} translation in mgsm_{longest}.tsv, {expected}")


def _number(text: str, item: Item) -> str | None:
    return last_number(before(text, NEXT), decimal_comma=item.subtask in DECIMAL_COMMA)


def _number_in_line(text: str, item: Item) -> str | None:
    return last_number(before(text.lstrip(), LINE), decimal_comma=item.subtask in DECIMAL_COMMA)
