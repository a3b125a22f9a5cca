"""What are FLAN's nine chain-of-thought tasks? Tab-separated question, answer and chain of thought, one file a dataset.

Chung et al. 2022, §2.1 and appendix F; files `flan/v2/cot_data/<dataset>_train.tsv` of google-research/FLAN, where
backslash-n stands for a line break. `Example.fields` hold the three columns as they are. Where a question ends in a
list of options, the list moves from the input to the options, and an answer that is the label of one ("(C)") becomes
that option's text, so that wordings may list, letter or leave out the options as they like.

Two files of the nine are too large for some copies of the repository. The dev sets of e-SNLI and QED, put in
`not_flan_format/` as their authors publish them, stand in for these; a warning and the fingerprint say so.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flanscale.tasks.catalog import CatalogRow, catalogued
from flanscale.tasks.on_disk import OnDisk
from flanscale.tasks.reading import BadRecord, content_fingerprint, existing_folder, gather, json_lines, text_lines
from flanscale.tasks.sources import to_fetch
from flanscale.tasks.tables import csv_rows
from flanscale.tasks.task import Example, Skips, Task

log = logging.getLogger(__name__)

INSTRUCTIONS = {
    "aqua": "Solve the algebra problem.",
    "creak": "Decide with common sense whether the claim is true.",
    "ecqa": "Give the answer that common sense suggests.",
    "esnli": "Decide whether the hypothesis follows from the premise.",
    "gsm8k": "Work out the number that the problem asks for.",
    "qasc": "Answer the question about science.",
    "qed": "Answer the question from the passage.",
    "sensemaking": "Name the sentence that common sense rules out.",
    "strategyqa": "Answer the question with yes or no.",
}
STAND_INS = {
    "esnli": "not_flan_format/esnli_dev_explanations.csv.gz",
    "qed": "not_flan_format/qed-dev.jsonlines.gz",
}
_STAND_IN_FORM = "dev stand-in, wording 1"  # part of the fingerprint: change it with the wording below
_ESNLI_ANSWERS = {"entailment": "yes", "contradiction": "no", "neutral": "it cannot be told"}
_ESNLI_COLUMNS = ["gold_label", "Premise", "Hypothesis", "Expl_1"]


@dataclass(frozen=True)
class Cot(OnDisk[Path]):
    """The collection."""

    name: str = "cot"

    @cached_property
    def files(self) -> dict[str, Path]:
        existing_folder(self.folder, "cot")
        found = {}
        for name, row in catalogued("cot").items():
            candidates = (f"{row.dataset}_train.tsv", f"{row.dataset}_train.tsv.gz", STAND_INS.get(row.dataset))
            present = [self.folder / file for file in candidates if file and (self.folder / file).is_file()]
            if present:
                found[name] = present[0]
        return found

    def _why_missing(self, row: CatalogRow) -> str:
        return f"no {row.dataset}_train.tsv in {self.folder}: {to_fetch('cot', self.folder)}"

    def fingerprint(self, name: str) -> str:
        path = self._source(name)
        return content_fingerprint([path], _STAND_IN_FORM if _is_stand_in(path) else "")

    def task(self, name: str) -> Task:
        row, path = self._row(name), self._source(name)
        if _is_stand_in(path):
            log.warning("task %s: the dev set %s stands in for FLAN's %s_train.tsv", name, path.name, row.dataset)
        examples = _read(path, row.dataset, self.examples_per_task, self.skips)
        return self._task(name, INSTRUCTIONS[row.dataset], examples, "question")


def _is_stand_in(path: Path) -> bool:
    return not path.name.removesuffix(".gz").endswith("_train.tsv")


def _read(path: Path, dataset: str, limit: int, skips: Skips) -> list[Example]:
    if not _is_stand_in(path):
        return gather(path, text_lines(path, skips), _flan_example, limit, skips)
    if dataset == "esnli":
        return gather(path, csv_rows(path, _ESNLI_COLUMNS, skips), _esnli_example, limit, skips)
    # A third of QED's dev set has no explanation: no such question bears a rationale.
    explained = ((line, record) for line, record in json_lines(path, skips) if _is_explained(record))
    return gather(path, explained, _qed_example, limit, skips)


def _flan_example(line: int, text: str) -> Example:
    columns = text.split("\t")
    if len(columns) != 3:
        raise BadRecord(f"{len(columns)} tab-separated columns, expected question, answer and chain of thought")
    question, answer, chain = (column.replace("\\n", "\n").strip() for column in columns)
    if not chain:
        raise BadRecord("no chain of thought")
    fields = {"question": question, "answer": answer, "chain_of_thought": chain}
    shown, target, options = _split_options(question, answer)
    return Example(str(line), shown, (target,), chain, options, fields)


def _split_options(question: str, answer: str) -> tuple[str, str, tuple[str, ...]]:
    """(question without its list of options, answer, options); unchanged and none where no list has the answer."""
    asked, mark, listed = question.rpartition("\nOptions:\n")
    entries = [line.removeprefix("- ") for line in listed.split("\n")]
    if not mark:
        return question, answer, ()
    if answer in entries:
        return asked, answer, tuple(entries)
    labelled = [re.fullmatch(r"(\([A-Z]\)) (.+)", entry) for entry in entries]
    texts = {match[1]: match[2] for match in labelled if match}
    if len(texts) == len(entries) and answer in texts and len(set(texts.values())) > 1:
        return asked, texts[answer], tuple(dict.fromkeys(texts.values()))
    named = [entry.partition(": ")[0] for entry in entries]
    if answer in named:  # the entries are what the question speaks of, so they stay in it
        return "\n".join([asked, *entries]), answer, tuple(named)
    return question, answer, ()


def _esnli_example(line: int, row: dict[str, str]) -> Example:
    label, premise, hypothesis, chain = (row[name].strip() for name in _ESNLI_COLUMNS)
    if label not in _ESNLI_ANSWERS:
        raise BadRecord(f"gold_label {label!r}, expected one of {', '.join(_ESNLI_ANSWERS)}")
    if not (premise and hypothesis and chain):
        raise BadRecord("no premise, hypothesis or explanation")
    question = f"Premise: {premise}\nHypothesis: {hypothesis}\nIf the premise is true, is the hypothesis true?"
    answer = _ESNLI_ANSWERS[label]
    fields = {"premise": premise, "hypothesis": hypothesis}
    fields |= {"question": question, "answer": answer, "chain_of_thought": chain}
    return Example(str(line), question, (answer,), chain, tuple(_ESNLI_ANSWERS.values()), fields)


def _is_explained(record: dict[str, Any]) -> bool:
    annotation = record.get("annotation")
    return not isinstance(annotation, dict) or annotation.get("explanation_type") == "single_sentence"


def _qed_example(line: int, record: dict[str, Any]) -> Example:
    try:
        annotation = record["annotation"]
        passage, asked = record["paragraph_text"].strip(), record["question_text"].strip()
        sentence = annotation["selected_sentence"]["string"].strip()
        answer = ", ".join(part["paragraph_reference"]["string"].strip() for part in annotation["answer"])
        pairs = [
            (pair["question_reference"]["string"].strip(), pair["sentence_reference"]["string"].strip())
            for pair in annotation["referential_equalities"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"not QED's form ({type(error).__name__}: {error})") from error
    same = "".join(f' "{ours}" is what it calls "{theirs}".' for ours, theirs in pairs if theirs)
    chain = f"The passage says: {sentence}{same}"
    question = f"{passage}\n\nQuestion: {asked}?"
    fields = {"question": question, "answer": answer, "chain_of_thought": chain}
    return Example(str(record.get("example_id", line)), question, (answer,), chain, (), fields)
