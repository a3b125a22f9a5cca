"""Which texts do held-out benchmarks consist of? Those of their published files, or of a folder of one's own.

    <benchmark>/                          as `benchmark_files` reads it; not GSM8K's train.jsonl, which is training data
    <benchmark>.txt, <benchmark>.jsonl    one's own: an item a line; of a JSON line, every string in it

What is not there is not read. Few-shot prompts that lie beside a benchmark are no items of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.folders import entries
from flanscale.tasks import benchmark_files as files
from flanscale.tasks.reading import existing_folder, json_lines, text_lines

_BBH_SENTENCE = re.compile(r'(?:^Sentence: |sentence plausible\? ")([^"\n]+)', re.MULTILINE)
"""What disambiguation_qa and sports_understanding ask about: one sentence, which its frame would hide."""
LONG_OPTION_WORDS = 13  # an option of that length is known again without its question


@dataclass(frozen=True, order=True)
class BenchmarkText:
    """One text of one benchmark item."""

    benchmark: str
    item: str
    """The key by which the benchmark asks it, as far as it does: test/anatomy/7."""
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
    for split in files.MMLU_SPLITS:
        for row in files.mmlu(folder, split):
            item, answers = f"{split}/{row.subject}/{row.place}", (row.options[row.answer],)
            listed = "\n".join(
                f"({letter}) {option}" for letter, option in zip(files.LETTERS, row.options, strict=True)
            )
            yield BenchmarkText("mmlu", item, "question", row.question, answers)
            yield BenchmarkText("mmlu", item, "question", row.question, answers, tail=listed)
            for option in row.options:
                if len(option.split()) >= LONG_OPTION_WORDS:
                    yield BenchmarkText("mmlu", item, "option", option)


def _bbh(folder: Path) -> Iterator[BenchmarkText]:
    for row in files.bbh(folder):
        item, answers = f"{row.subtask}/{row.place}", (row.target,)
        yield BenchmarkText("bbh", item, "input", row.input, answers)
        if sentence := _BBH_SENTENCE.search(row.input):
            yield BenchmarkText("bbh", item, "sentence", sentence[1])
    for canary in sorted(files.bbh_canaries(folder)):
        yield BenchmarkText("bbh", "canary", "text", canary)


def _mgsm(folder: Path) -> Iterator[BenchmarkText]:
    for row in files.mgsm(folder):
        yield BenchmarkText("mgsm", f"{row.language}/{row.place}", "question", row.question, (row.answer,))


def _tydiqa(folder: Path) -> Iterator[BenchmarkText]:
    contexts = set()
    for row in files.tydiqa(folder, "dev"):
        yield BenchmarkText("tydiqa", row.key, "question", row.question, row.answers)
        if row.context not in contexts:
            contexts.add(row.context)
            yield BenchmarkText("tydiqa", row.key, "context", row.context)


def _gsm8k(folder: Path) -> Iterator[BenchmarkText]:
    for row in files.gsm8k(folder, "test"):
        yield BenchmarkText("gsm8k", f"test/{row.place}", "question", row.question, (row.answer,))
        yield BenchmarkText("gsm8k", f"test/{row.place}", "solution", row.solution)


def _open_ended(folder: Path) -> Iterator[BenchmarkText]:
    for row in files.open_ended(folder):
        for number, (asked, output) in enumerate(row.instances):
            item = f"{row.id}/{number}"
            yield BenchmarkText("open_ended", item, "instruction", row.instruction)
            yield BenchmarkText("open_ended", item, "input", asked)
            yield BenchmarkText("open_ended", item, "output", output)


def _own(path: Path) -> Iterator[BenchmarkText]:
    records = json_lines(path, files.STRICT) if path.suffix == ".jsonl" else text_lines(path, files.STRICT)
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


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
