"""Which texts do held-out benchmarks consist of? Read from their published files, or from a folder of one's own.

    mmlu/{dev,val,test}/<subject>_<split>.csv    question, A, B, C, D, letter; no header
    bbh/bbh/<subtask>.json                       {"canary": …, "examples": [{"input", "target"}]}
    mgsm/mgsm_<language>.tsv                     question, tab, number; no header
    tydiqa/dev/<language>_tydiqa_dev.json        SQuAD form
    gsm8k/test.jsonl                             {"question", "answer"}; train.jsonl is never read: it is training data
    open_ended/user_oriented_instructions.jsonl  {"id", "instruction", "instances": [{"input", "output"}]}
    <benchmark>.txt, <benchmark>.jsonl           one's own: an item a line; of a JSON line, every string in it

What is not there is not read. Few-shot prompts that lie beside a benchmark are no items of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.folders import entries
from flanscale.tasks.reading import existing_folder, json_document, json_lines, text_lines
from flanscale.tasks.task import Skips

SPLITS = ("dev", "val", "test")
LETTERS = ("A", "B", "C", "D")
_BBH_SENTENCE = re.compile(r'(?:^Sentence: |sentence plausible\? ")([^"\n]+)', re.MULTILINE)
"""What disambiguation_qa and sports_understanding ask about: one sentence, which its frame would hide."""
LONG_OPTION_WORDS = 13  # an option of that length is known again without its question


@dataclass(frozen=True, order=True)
class BenchmarkText:
    """One text of one benchmark item."""

    benchmark: str
    item: str
    """Split or file, then the place counted from nought or the source's own id: test/anatomy/7."""
    piece: str
    """What of the item it is: question, option, context, solution, instruction, input, output, sentence or text."""
    text: str
    answers: tuple[str, ...] = ()
    """The item's right answers, in words; empty where it has none."""
    tail: str = ""
    """What follows, where an overlap may end but not begin: lists of options are alike in many places."""

    @property
    def full(self) -> str:
        return f"{self.text}\n{self.tail}" if self.tail else self.text


def load_benchmarks(folder: Path) -> list[BenchmarkText]:
    """Every text of the benchmarks in `folder`, in a fixed order.

    Raises:
        DataError: no such folder, no benchmark in it, or a malformed record.
    """
    existing_folder(folder, "benchmarks")
    texts: list[BenchmarkText] = []
    for name, read in _READERS.items():
        if (folder / name).is_dir():
            if not (found := list(read(folder / name))):
                raise DataError(f"{folder / name}: no benchmark file there; expected {_EXPECTED[name]}")
            texts += found
    for path in sorted((*entries(folder, "*.txt"), *entries(folder, "*.jsonl"))):
        texts += _own(path)
    if not texts:
        raise DataError(
            f"data.benchmarks={folder}: no benchmark there; expected one of {', '.join(_READERS)} as a folder, "
            "or .txt or .jsonl files with an item a line"
        )
    return texts


def _mmlu(folder: Path) -> Iterator[BenchmarkText]:
    for split in SPLITS:
        for path in entries(folder / split, f"*_{split}.csv"):
            subject = path.name.removesuffix(f"_{split}.csv")
            rows = csv.reader(f"{line}\n" for _, line in text_lines(path, _STRICT))
            for index, row in enumerate(rows):
                if len(row) != 6 or row[5] not in LETTERS:
                    raise DataError(f"{path}:{rows.line_num}: expected question, four options and A, B, C or D")
                item, options = f"{split}/{subject}/{index}", row[1:5]
                answers = (options[LETTERS.index(row[5])],)
                listed = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
                yield BenchmarkText("mmlu", item, "question", row[0], answers)
                yield BenchmarkText("mmlu", item, "question", row[0], answers, tail=listed)
                for option in options:
                    if len(option.split()) >= LONG_OPTION_WORDS:
                        yield BenchmarkText("mmlu", item, "option", option)


def _bbh(folder: Path) -> Iterator[BenchmarkText]:
    canaries = set()
    for path in entries(folder / "bbh", "*.json"):
        record = json_document(path)
        with _expecting(path, "canary and examples with input and target"):
            canaries.add(_text(record.get("canary", "")))
            for index, example in enumerate(record["examples"]):
                answers = (_text(example["target"]),)
                item, text = f"{path.stem}/{index}", _text(example["input"])
                yield BenchmarkText("bbh", item, "input", text, answers)
                if sentence := _BBH_SENTENCE.search(text):
                    yield BenchmarkText("bbh", item, "sentence", sentence[1])
    for canary in sorted(canaries - {""}):
        yield BenchmarkText("bbh", "canary", "text", canary)


def _mgsm(folder: Path) -> Iterator[BenchmarkText]:
    for path in entries(folder, "mgsm_*.tsv"):
        language = path.stem.removeprefix("mgsm_")
        for index, (number, line) in enumerate(text_lines(path, _STRICT)):
            question, tab, answer = line.partition("\t")
            if not tab:
                raise DataError(f"{path}:{number}: expected question, tab, number")
            yield BenchmarkText("mgsm", f"{language}/{index}", "question", question, (answer,))


def _tydiqa(folder: Path) -> Iterator[BenchmarkText]:
    contexts = set()
    for path in entries(folder / "dev", "*_tydiqa_dev.json"):
        record = json_document(path)
        with _expecting(path, "SQuAD form"):
            for paragraph in (paragraph for article in record["data"] for paragraph in article["paragraphs"]):
                for question in paragraph["qas"]:
                    item = f"dev/{question['id']}"
                    answers = tuple(dict.fromkeys(_text(answer["text"]) for answer in question["answers"]))
                    yield BenchmarkText("tydiqa", item, "question", _text(question["question"]), answers)
                    if paragraph["context"] not in contexts:
                        contexts.add(paragraph["context"])
                        yield BenchmarkText("tydiqa", item, "context", _text(paragraph["context"]))


def _gsm8k(folder: Path) -> Iterator[BenchmarkText]:
    if (path := folder / "test.jsonl").is_file():
        for index, (number, record) in enumerate(json_lines(path, _STRICT)):
            with _expecting(path, "question and answer", number):
                solution, _, answer = _text(record["answer"]).rpartition("####")
                yield BenchmarkText("gsm8k", f"test/{index}", "question", _text(record["question"]), (answer.strip(),))
                yield BenchmarkText("gsm8k", f"test/{index}", "solution", solution)


def _open_ended(folder: Path) -> Iterator[BenchmarkText]:
    if (path := folder / "user_oriented_instructions.jsonl").is_file():
        for number, record in json_lines(path, _STRICT):
            with _expecting(path, "id, instruction and instances with input and output", number):
                item = _text(record["id"])
                yield BenchmarkText("open_ended", item, "instruction", _text(record["instruction"]))
                for instance in record["instances"]:
                    yield BenchmarkText("open_ended", item, "input", _text(instance["input"]))
                    yield BenchmarkText("open_ended", item, "output", _text(instance["output"]))


def _own(path: Path) -> Iterator[BenchmarkText]:
    records = json_lines(path, _STRICT) if path.suffix == ".jsonl" else text_lines(path, _STRICT)
    for number, record in records:
        for text in filter(str.strip, _strings(record)):
            yield BenchmarkText(path.stem, f"line {number}", "text", text)


_READERS: dict[str, Callable[[Path], Iterator[BenchmarkText]]] = {
    "mmlu": _mmlu,
    "bbh": _bbh,
    "mgsm": _mgsm,
    "tydiqa": _tydiqa,
    "gsm8k": _gsm8k,
    "open_ended": _open_ended,
}
_EXPECTED = {
    "mmlu": "dev, val or test with <subject>_<split>.csv",
    "bbh": "bbh/<subtask>.json",
    "mgsm": "mgsm_<language>.tsv",
    "tydiqa": "dev/<language>_tydiqa_dev.json",
    "gsm8k": "test.jsonl",
    "open_ended": "user_oriented_instructions.jsonl",
}


class _Strict(Skips):
    """A benchmark is guarded whole or not at all: nothing of it may be skipped."""

    def bad(self, path: Path, place: int | str | None, why: str) -> None:
        raise DataError(f"{path}:{place}: {why}")


_STRICT = _Strict()


@contextmanager
def _expecting(path: Path, form: str, number: int | None = None) -> Iterator[None]:
    """Name the file of a record that has another form."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        where = f"{path}:{number}" if number else f"{path}"
        raise DataError(f"{where}: expected {form} ({type(error).__name__}: {error})") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
