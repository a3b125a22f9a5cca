"""How is one of Muffin's datasets read from the Parquet files that the Hugging Face Hub makes of it?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.tasks.muffin_rows import Row
from flanscale.tasks.reading import BadRecord, gather
from flanscale.tasks.tables import parquet_rows
from flanscale.tasks.task import Example, Skips

BRANCH = "refs/convert/parquet"
"""The branch on which the Hub keeps a dataset's Parquet files, `<config>/<split>/0000.parquet` and so on."""
FOLDER = "hub"
"""Where they are under data.muffin: `hub/<owner>/<name>/<config>/<split>/`."""
_MAY_BE_EMPTY = ("title", "background")


@dataclass(frozen=True)
class HubForm:
    """How one dataset is read.

    Attributes:
        fields: FLAN's field → where it is in a row; dots lead into structures and lists (`answers.text.0`).
        answer: the field that is the target. A list in its place holds the target and other right answers.
        labels: the words of a class number, which is in the answer's place.
        options: where the alternatives are, each a text or a list of texts; the number in the answer's place picks one.
        reshape: a row of the file → flat rows, in which `fields` then look.
        reads: the columns that `reshape` needs.
        first_row: the rows before it belong to another task.
        first_file: whether the split's first file is enough: it alone holds several times what FLAN takes.
    """

    repository: str
    config: str
    instruction: str
    shown: str
    fields: Mapping[str, str]
    answer: str = "answer"
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    reshape: Callable[[Row], Iterable[Row]] = lambda row: (row,)
    reads: tuple[str, ...] = ()
    split: str = "train"
    first_row: int = 0
    first_file: bool = False

    @property
    def style(self) -> str:
        """Which of the project's wordings fit."""
        if self.labels:
            return "classification"
        return "question" if self.answer == "answer" else "generation"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the file that are read."""
        return self.reads or tuple({place.split(".")[0]: None for place in (*self.fields.values(), *self.options)})

    @property
    def prefixes(self) -> tuple[str, ...]:
        """How the paths of its files begin; the Hub says `partial` where it converted only the first gigabytes."""
        file = "0000." if self.first_file else ""
        return tuple(f"{self.config}/{split}/{file}" for split in (self.split, f"partial-{self.split}"))

    def files(self, folder: Path) -> list[Path]:
        """Those of its files that are under `folder`, the folder of data.muffin, in order."""
        root = folder / FOLDER / self.repository
        return [path for prefix in self.prefixes for path in sorted(root.glob(f"{prefix}*parquet")) if path.is_file()]


def read(paths: Iterable[Path], form: HubForm, limit: int, skips: Skips) -> list[Example]:
    """The first examples of a dataset's files. A row with an empty text teaches nothing and is passed over.

    Raises:
        DataError: a damaged file, a bad record that may not be left out, or no example at all.
    """
    examples: list[Example] = []
    for number, path in enumerate(paths):
        wanted = limit - len(examples)
        if wanted <= 0:
            break
        records = _records(path, form, form.first_row if number == 0 else 0, skips)
        examples += gather(path, records, _parser(form, f"{number}-" if number else ""), wanted, skips)
    return examples


def _records(path: Path, form: HubForm, before: int, skips: Skips) -> Iterator[tuple[str, Row]]:
    """(place, flat row) with the fields that are no texts yet: class numbers and lists of answers."""
    for number, (place, row) in enumerate(parquet_rows(path, form.columns, skips)):
        if number < before:
            continue
        try:
            flat = list(form.reshape(row))
        except (KeyError, TypeError, AttributeError, LookupError, ValueError) as error:
            skips.bad(path, place, f"not the columns of {form.repository} ({type(error).__name__}: {error})"[:200])
            continue
        for part, record in enumerate(flat):
            if not _is_empty(record, form):
                yield f"{place}.{part}" if len(flat) > 1 else place, record


def _is_empty(record: Row, form: HubForm) -> bool:
    try:
        values = [_at(record, where) for name, where in form.fields.items() if name not in _MAY_BE_EMPTY]
    except BadRecord:
        return False  # it is told where examples are made
    return any(value in (None, "", []) or (isinstance(value, str) and value.isspace()) for value in values)


def _parser(form: HubForm, prefix: str) -> Callable[[str, Row], Example]:
    """(place, flat row) → example; the prefix tells apart the ids of several files."""

    def example(place: str, record: Row) -> Example:
        values = {name: _at(record, where) for name, where in form.fields.items()}
        answer, options = values[form.answer], form.labels
        others: list[str] = []
        if form.options:
            options = tuple(text for where in form.options for text in _texts(_at(record, where), where))
        if options:
            answer = options[_class(answer, len(options))]
        else:
            answer, *others = [text for text in _texts(answer, form.fields[form.answer]) if text] or [""]
        values[form.answer] = answer
        fields = {name: _texts(value, form.fields[name])[0] for name, value in values.items()}
        references = tuple(dict.fromkeys((answer, *others)))
        identifier = prefix + place.removeprefix("row ")
        fields = {"answer": answer} | fields
        return Example(identifier, form.shown.format_map(fields), references, None, options, fields)

    return example


def _at(row: Any, where: str) -> Any:
    for step in where.split("."):
        try:
            row = row[int(step) if step.isdecimal() else step]
        except (KeyError, IndexError, TypeError) as error:
            raise BadRecord(f"no {where!r}") from error
    return row


def _texts(value: Any, where: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadRecord(f"{where!r} is no text")
    return [text.strip() for text in texts]


def _class(number: Any, classes: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < classes:
        raise BadRecord(f"class {number!r}, expected a number from 0 to {classes - 1}")
    return number
