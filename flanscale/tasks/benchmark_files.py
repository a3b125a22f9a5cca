"""What is in the published files of held-out benchmarks? One reader a benchmark, each of rows in the files' order.

    mmlu/{dev,val,test}/<subject>_<split>.csv    question, A, B, C, D, letter; no header
    mmlu/mmlu-cot.json                           {subject: worked examples with their reasoning}
    bbh/bbh/<subtask>.json                       {"canary": …, "examples": [{"input", "target"}]}
    bbh/cot-prompts/<subtask>.txt                canary, -----, worked examples with their reasoning
    mgsm/mgsm_<language>.tsv                     question, tab, number; no header
    mgsm/exemplars.json                          {"MGSM_EXEMPLARS": {language: {"1": {"q", "a"}, …}},
                                                  "EXEMPLAR_NUMBER_ANSWERS": [11, …]}
    tydiqa/<split>/<language>_tydiqa_<split>.json  SQuAD form
    gsm8k/<split>.jsonl                          {"question", "answer"}
    open_ended/user_oriented_instructions.jsonl  {"id", "instruction", "instances": [{"input", "output"}]}

Files that are not there give no rows. A malformed record is an error that names its file and line: a benchmark is read
whole or not at all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flanscale.errors import DataError
from flanscale.folders import entries
from flanscale.tasks.reading import json_document, json_lines, text_lines
from flanscale.tasks.task import Skips

MMLU_SPLITS = ("dev", "val", "test")
MMLU_COT = "mmlu-cot.json"
LETTERS = ("A", "B", "C", "D")
THINK = "Let's think step by step."
"""What worked examples with their reasoning begin the answer with (Kojima et al. 2022)."""


class MultipleChoice(NamedTuple):
    """One question of MMLU; `place` is that in the file of its subject, from nought."""

    subject: str
    place: int
    question: str
    options: tuple[str, str, str, str]
    answer: int

    @property
    def letter(self) -> str:
        return LETTERS[self.answer]


class BbhExample(NamedTuple):
    """One example of a subtask of BIG-Bench Hard."""

    subtask: str
    place: int
    input: str
    target: str


class Worked(NamedTuple):
    """The examples of a subtask that are worked with their reasoning, to the character as they are published."""

    subtask: str
    opening: str
    """What comes before the first of them, without the blank line between."""
    shots: tuple[str, ...]
    """Each from its `Q: ` to the end of its answer."""


class Problem(NamedTuple):
    """One problem of MGSM in one language: problems of one place are translations of each other."""

    language: str
    place: int
    question: str
    answer: str


class Exemplar(NamedTuple):
    """One of MGSM's worked problems: question and solution each begin with the words that announce them."""

    question: str
    solution: str
    answer: str


class Passage(NamedTuple):
    """One question of TyDiQA GoldP about its passage; `answers` are distinct."""

    language: str
    id: str
    question: str
    context: str
    answers: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its language and, without that once more, its id."""
        return f"{self.language}/{self.id.removeprefix(f'{self.language}-')}"


class WordProblem(NamedTuple):
    """One problem of GSM8K, with its worked solution, in which calculations stand in << >>."""

    place: int
    question: str
    solution: str
    answer: str


class Instruction(NamedTuple):
    """One open-ended instruction with its instances, each an input (which may be empty) and an expert's output."""

    id: str
    instruction: str
    instances: tuple[tuple[str, str], ...]


def mmlu(folder: Path, split: str) -> Iterator[MultipleChoice]:
    for path in entries(folder / split, f"*_{split}.csv"):
        subject = path.name.removesuffix(f"_{split}.csv")
        rows = csv.reader(f"{line}\n" for _, line in text_lines(path, STRICT))
        place = -1
        for place, row in enumerate(rows):
            if len(row) != 6 or row[5] not in LETTERS or not all(map(str.strip, row)):
                raise DataError(f"{path}:{rows.line_num}: expected question, four options and A, B, C or D")
            question, *options, letter = row
            yield MultipleChoice(subject, place, question, (*options,), LETTERS.index(letter))  # type: ignore[arg-type]
        if place < 0:
            raise DataError(f"{path}: no question in it")


def mmlu_cot(folder: Path) -> Iterator[Worked]:
    if (path := folder / MMLU_COT).is_file():
        prompts = json_document(path)
        with expecting(path, "a text by subject"):
            for subject, prompt in prompts.items():
                yield _worked(path, subject, text(prompt))


def bbh(folder: Path) -> Iterator[BbhExample]:
    for path in entries(folder / "bbh", "*.json"):
        record = json_document(path)
        with expecting(path, "canary and examples with input and target"):
            if not record["examples"]:
                raise DataError(f"{path}: no example in it")
            for place, example in enumerate(record["examples"]):
                asked, target = text(example["input"]), text(example["target"])
                if not (asked.strip() and target.strip()):
                    raise DataError(f"{path}: examples[{place}] has an empty input or target")
                yield BbhExample(path.stem, place, asked, target)


def bbh_cot(folder: Path) -> Iterator[Worked]:
    for path in entries(folder / "cot-prompts", "*.txt"):
        lines = "\n".join(line for _, line in text_lines(path, STRICT))
        _, rule, prompt = lines.partition("\n-----\n")
        if not rule:
            raise DataError(f"{path}: expected a line with a canary, the line ----- and a prompt")
        yield _worked(path, path.stem, prompt)


def _worked(path: Path, subtask: str, prompt: str) -> Worked:
    opening, *shots = prompt.split("\n\nQ: ")
    if not shots:
        raise DataError(f"{path}: {subtask}: expected worked examples, each after a blank line and 'Q: '")
    for number, shot in enumerate(shots, start=1):
        _, answer, reasoning = shot.partition(f"\nA: {THINK}")
        if not answer or "the answer is" not in reasoning.lower():
            raise DataError(
                f"{path}: {subtask}: worked example {number} of {len(shots)} lacks 'A: {THINK}' or 'the answer is'"
            )
    return Worked(subtask, opening, tuple(f"Q: {shot}" for shot in shots))


def bbh_canaries(folder: Path) -> set[str]:
    """The strings by which BIG-Bench's texts are known again."""
    canaries = set()
    for path in entries(folder / "bbh", "*.json"):
        record = json_document(path)
        with expecting(path, "a text as canary"):
            canaries.add(text(record.get("canary", "")))
    return canaries - {""}


def mgsm(folder: Path) -> Iterator[Problem]:
    for path in entries(folder, "mgsm_*.tsv"):
        language = path.stem.removeprefix("mgsm_")
        for place, (number, line) in enumerate(text_lines(path, STRICT)):
            question, tab, answer = line.partition("\t")
            if not tab:
                raise DataError(f"{path}:{number}: expected question, tab, number")
            yield Problem(language, place, question, answer)


def mgsm_exemplars(folder: Path) -> dict[str, tuple[Exemplar, ...]]:
    """By language, in the order of their numbers."""
    if not (path := folder / "exemplars.json").is_file():
        return {}
    record = json_document(path)
    with expecting(path, "MGSM_EXEMPLARS with q and a by language and number, and EXEMPLAR_NUMBER_ANSWERS"):
        answers = [str(answer) for answer in record["EXEMPLAR_NUMBER_ANSWERS"]]
        return {
            language: tuple(
                Exemplar(text(shots[f"{number}"]["q"]), text(shots[f"{number}"]["a"]), answer)
                for number, answer in enumerate(answers, start=1)
            )
            for language, shots in record["MGSM_EXEMPLARS"].items()
        }


def tydiqa(folder: Path, split: str) -> Iterator[Passage]:
    for path in entries(folder / split, f"*_tydiqa_{split}.json"):
        language = path.name.removesuffix(f"_tydiqa_{split}.json")
        record = json_document(path)
        with expecting(path, "SQuAD form"):
            for paragraph in (paragraph for article in record["data"] for paragraph in article["paragraphs"]):
                for question in paragraph["qas"]:
                    answers = tuple(dict.fromkeys(text(answer["text"]) for answer in question["answers"]))
                    asked, context = text(question["question"]), text(paragraph["context"])
                    yield Passage(language, str(question["id"]), asked, context, answers)


def gsm8k(folder: Path, split: str) -> Iterator[WordProblem]:
    if (path := folder / f"{split}.jsonl").is_file():
        for place, (number, record) in enumerate(json_lines(path, STRICT)):
            with expecting(path, "question and answer", number):
                solution, _, answer = text(record["answer"]).rpartition("####")
                yield WordProblem(place, text(record["question"]), solution, answer.strip())


def open_ended(folder: Path) -> Iterator[Instruction]:
    if (path := folder / "user_oriented_instructions.jsonl").is_file():
        for number, record in json_lines(path, STRICT):
            with expecting(path, "id, instruction and instances with input and output", number):
                instances = tuple((text(one["input"]), text(one["output"])) for one in record["instances"])
                yield Instruction(text(record["id"]), text(record["instruction"]), instances)


class _Strict(Skips):
    """Nothing of a benchmark may be skipped."""

    def bad(self, path: Path, place: int | str | None, why: str) -> None:
        raise DataError(f"{path}:{place}: {why}")


STRICT = _Strict()


@contextmanager
def expecting(path: Path, form: str, number: int | None = None) -> Iterator[None]:
    """Name the file, and the line, of a record that has another form."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        where = f"{path}:{number}" if number else f"{path}"
        raise DataError(f"{where}: expected {form} ({type(error).__name__}: {error})") from error


def text(value: Any) -> str:
    """The value, which must be a text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
