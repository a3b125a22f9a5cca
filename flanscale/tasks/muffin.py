"""What are the tasks of Muffin that have open data? 66 Flan-2021 datasets: 14 in a folder each, 52 as the Hub has them.

Chung et al. 2022, §2.1; Wei et al. 2022 for Flan 2021. The 52 are Parquet files of the Hugging Face Hub under `hub/`
(muffin_table.py says which, and why the last 14 of Muffin's 80 are nowhere). Of the 14 in folders, eleven are in the
form that continual-learning repositories pass on, `train.json[.gz]` with `labels.json`: the fields of an example joined
into one text, and its label as a word. They are split back into the fields of FLAN's templates (`premise`,
`hypothesis`, …), because wordings need them apart. CoLA, E2E NLG and DART are in their authors' forms. Where only the
dev set of these is there, it stands in for the training set; a warning and the fingerprint say so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.tasks import muffin_hub
from flanscale.tasks.catalog import CatalogRow, catalogued
from flanscale.tasks.flan_names import NEVER_RENDERED
from flanscale.tasks.muffin_table import HUB_FORMS, NOT_ON_THE_HUB
from flanscale.tasks.on_disk import OnDisk
from flanscale.tasks.reading import (
    BadRecord,
    content_fingerprint,
    existing_folder,
    gather,
    json_document,
    text_lines,
    text_of,
)
from flanscale.tasks.sources import to_fetch
from flanscale.tasks.tables import csv_rows
from flanscale.tasks.task import Example, Skips, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """How one dataset is read: its files in order of preference, and what its examples look like."""

    instruction: str
    files: tuple[str, ...] = ("train.json", "train.json.gz")
    split: str = ""
    """Regular expression of the joined text; its groups are the fields of FLAN's templates."""
    shown: str = ""
    """The example's input, made of the fields."""
    style: str = "classification"


_PAIR = r"sentence 1: (?P<premise>.*)\nsentence 2: (?P<hypothesis>.*)"
_ENTAILMENT = "Premise: {premise}\nHypothesis: {hypothesis}"
FORMS = {
    "ag_news_subset": Form(
        "Name the section of the newspaper that the article belongs to.",
        split=r"Title: (?P<title>.*?)\nText: (?P<text>.*)",
        shown="{title}\n{text}",
    ),
    "bool_q": Form(
        "Decide from the passage whether the answer to the question is yes (True) or no (False).",
        split=r"question: (?P<question>.*?)\npassage: (?:(?P<title>.*?) -- )?(?P<text>.*)",
        shown="{text}\n\nQuestion: {question}?",
    ),
    "cb": Form("Decide how the hypothesis relates to the premise.", split=_PAIR, shown=_ENTAILMENT),
    "cola": Form(
        "Judge whether a native speaker would accept the sentence.",
        ("in_domain_train.tsv", "in_domain_train.tsv.gz"),
        shown="{sentence}",
    ),
    "copa": Form(
        "Pick the more plausible cause or effect of what happened.",
        split=r'Which sentence is the (?P<question>cause|effect) of "(?P<premise>.*)"\? Choose one between A and B\.'
        r"\nA: (?P<A>.*)\nB: (?P<B>.*)",
        shown="{premise}\nWhat is the {question}?",
    ),
    "dart": Form(
        "Put the facts, given as subject, relation and object, into words.",
        ("dart-v1.1.1-full-train.json", "dart-v1.1.1-full-train.json.gz", "dart-v1.1.1-dev.json.gz"),
        shown="{tripleset_newline}",
        style="generation",
    ),
    "e2e_nlg": Form(
        "Describe the restaurant that has these attributes.",
        ("trainset.csv", "trainset.csv.gz", "devset.csv"),
        shown="{meaning_representation}",
        style="generation",
    ),
    "glue_qqp": Form(
        "Decide whether the two questions ask for the same thing.",
        split=r"first sentence: (?P<question1>.*)\nsecond sentence: (?P<question2>.*)",
        shown="First question: {question1}\nSecond question: {question2}",
    ),
    "imdb_reviews": Form("Judge whether the film review is favourable.", split=r"(?P<text>.*)", shown="{text}"),
    "mnli_matched": Form("Decide how the hypothesis relates to the premise.", split=_PAIR, shown=_ENTAILMENT),
    "multirc": Form(
        "Decide from the paragraph whether the proposed answer to the question is right.",
        split=r"paragraph: (?P<paragraph>.*?)\s*\nquestion: (?P<question>.*?)\ncandidate answer: (?P<response>.*)",
        shown="{paragraph}\n\nQuestion: {question}\nProposed answer: {response}",
    ),
    "rte": Form("Decide how the hypothesis relates to the premise.", split=_PAIR, shown=_ENTAILMENT),
    "sst2": Form(
        "Judge whether the words from a film review are favourable.",
        split=r"Text: (?P<sentence>.*)",
        shown="{sentence}",
    ),
    "wic": Form(
        "Decide whether the word has the same meaning in both sentences.",
        split=r"word: (?P<word>[^\n]*)\n(?P<sentence1>[^\n]*)\n(?P<sentence2>[^\n]*)",
        shown="Word: {word}\nFirst sentence: {sentence1}\nSecond sentence: {sentence2}",
    ),
}
_COLA_LABELS = {"1": "acceptable", "0": "unacceptable"}
_STAND_IN_FORM = "dev stand-in"


@dataclass(frozen=True)
class Muffin(OnDisk[list[Path]]):
    """The collection; a task of the Hub may have several files, another has one."""

    name: str = "muffin"

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        existing_folder(self.folder, "muffin")
        found = {name: self._files(name) for name in catalogued("muffin")}
        return {name: paths for name, paths in found.items() if paths}

    def _files(self, name: str) -> list[Path]:
        if name in HUB_FORMS:
            return HUB_FORMS[name].files(self.folder)
        paths = [self.folder / name / file for file in FORMS[name].files] if name in FORMS else []
        return [path for path in paths if path.is_file()][:1]

    def _why_missing(self, row: CatalogRow) -> str:
        if row.task in NOT_ON_THE_HUB:
            elsewhere = "take it from collection=rendered, or write it as a task of collection=jsonl"
            if why := NEVER_RENDERED.get(row.task):
                elsewhere = f"nor in collection=rendered ({why}); write it as a task of collection=jsonl"
            return f"{NOT_ON_THE_HUB[row.task]}; {elsewhere}"
        if row.task in HUB_FORMS:
            form = HUB_FORMS[row.task]
            wanted = f"Parquet files in {self.folder / muffin_hub.FOLDER / form.repository / form.config / form.split}"
        else:
            wanted = f"{FORMS[row.task].files[0]} in {self.folder / row.task}"
        return f"no {wanted}: {to_fetch('muffin', self.folder)}"

    def fingerprint(self, name: str) -> str:
        if name in HUB_FORMS:
            return content_fingerprint(self._source(name), f"hub {name}")
        (path,) = self._source(name)
        return content_fingerprint([path, *_labels_file(path)], _STAND_IN_FORM if _is_stand_in(path) else "")

    def task(self, name: str) -> Task:
        paths = self._source(name)
        if name in HUB_FORMS:
            hub = HUB_FORMS[name]
            examples = muffin_hub.read(paths, hub, self.examples_per_task, self.skips)
            return self._task(name, hub.instruction, examples, hub.style)
        (path,) = paths
        if _is_stand_in(path):
            log.warning("task %s: its dev set %s stands in for the training set", name, path.name)
        form = FORMS[name]
        examples = _READERS.get(name, _joined)(path, form, self.examples_per_task, self.skips)
        return self._task(name, form.instruction, examples, form.style)


def _is_stand_in(path: Path) -> bool:
    return "train" not in path.name


def _labels_file(path: Path) -> list[Path]:
    return [path.with_name("labels.json")] if path.name.startswith("train.json") else []


def _joined(path: Path, form: Form, limit: int, skips: Skips) -> list[Example]:
    labels = json_document(_labels_file(path)[0])
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{_labels_file(path)[0]}: expected a list of label words")
    pattern = re.compile(form.split, re.DOTALL)

    def example(place: str, record: dict[str, Any]) -> Example:
        joined, label = text_of(record, "sentence"), text_of(record, "label")
        if label not in labels:
            raise BadRecord(f"label {label!r} is not in labels.json ({', '.join(labels)})"[:200])
        if (match := pattern.fullmatch(joined)) is None:
            raise BadRecord("the joined text does not have this dataset's parts")
        fields = {key: (value or "").strip() for key, value in match.groupdict().items()}
        if empty := [key for key, value in fields.items() if not value and key != "title"]:
            raise BadRecord(f"empty {', '.join(empty)}")
        # COPA's labels name alternatives that stand in the text.
        alternatives = {name: fields.pop(name) for name in labels if name in fields} or dict.fromkeys(labels, "")
        answers = {name: text or name for name, text in alternatives.items()}
        if label not in answers:
            raise BadRecord(f"label {label!r} names none of {', '.join(answers)}"[:200])
        return _example(place, form, fields | {"answer": answers[label]}, options=tuple(answers.values()))

    return gather(path, _array(path, skips), example, limit, skips)


def _cola(path: Path, form: Form, limit: int, skips: Skips) -> list[Example]:
    def example(line: int, text: str) -> Example:
        columns = text.split("\t")
        if len(columns) != 4:
            raise BadRecord(f"{len(columns)} tab-separated columns, expected source, label, mark and sentence")
        if columns[1] not in _COLA_LABELS:
            raise BadRecord("label is neither 0 nor 1")
        fields = {"sentence": columns[3].strip(), "answer": _COLA_LABELS[columns[1]]}
        return _example(str(line), form, fields, options=tuple(_COLA_LABELS.values()))

    return gather(path, text_lines(path, skips), example, limit, skips)


def _e2e(path: Path, form: Form, limit: int, skips: Skips) -> list[Example]:
    def example(line: int, row: dict[str, str]) -> Example:
        # name[Alimentum], area[city centre] → name = Alimentum, area = city centre
        attributes = re.sub(r"(\w+)\[([^\]]*)\]", r"\1 = \2", row["mr"].strip())
        return _example(str(line), form, {"meaning_representation": attributes, "target": row["ref"].strip()})

    return gather(path, csv_rows(path, ("mr", "ref"), skips), example, limit, skips)


def _dart(path: Path, form: Form, limit: int, skips: Skips) -> list[Example]:
    def example(place: str, record: dict[str, Any]) -> Example:
        try:
            triples = [", ".join(map(str.strip, triple)) for triple in record["tripleset"]]
            texts = [annotation["text"].strip() for annotation in record["annotations"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise BadRecord(f"not DART's form ({type(error).__name__}: {error})") from error
        if not texts:
            raise BadRecord("no output")
        fields = {"tripleset": "; ".join(triples), "tripleset_newline": "\n".join(triples), "target": texts[0]}
        return _example(place, form, fields, more=texts[1:])

    return gather(path, _array(path, skips), example, limit, skips)


def _example(
    place: str, form: Form, fields: dict[str, str], options: tuple[str, ...] = (), more: list[str] | None = None
) -> Example:
    fields = {"answer": fields.get("target", "")} | fields
    references = (fields["answer"], *(more or []))
    return Example(place.removeprefix("record "), form.shown.format_map(fields), references, None, options, fields)


def _array(path: Path, skips: Skips) -> Iterator[tuple[str, dict[str, Any]]]:
    records = json_document(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: a JSON {type(records).__name__}, expected a list of objects")
    for number, record in enumerate(records, start=1):
        if isinstance(record, dict):
            yield f"record {number}", record
        else:
            skips.bad(path, f"record {number}", f"a JSON {type(record).__name__}, expected an object")


_READERS: dict[str, Callable[[Path, Form, int, Skips], list[Example]]] = {
    "cola": _cola,
    "dart": _dart,
    "e2e_nlg": _e2e,
}
