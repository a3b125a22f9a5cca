"""Whose answer is better? A sheet that shows two models' answers side by side, and never says whose is whose.

    NAME.html        all that a rater needs, in one file that reaches for no other: open it, judge, save the judgements
    NAME.jsonl       the same pairs, a line each, for whom the page does not suit
    NAME.key.json    which answer is whose; it stays at home

A judgement is a line {"sheet", "rater", "key", "better": "1", "2" or "tie", "failed": [those of "1", "2" that are no
answer at all]}. The page keeps them in the browser as they are made, and saves them as a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.preference import Judgement, shown
from flanscale.evaluation.records import Record
from flanscale.run_directory import write_atomically
from flanscale.tasks.benchmark_files import STRICT, expecting, text
from flanscale.tasks.reading import json_document, json_lines

TEMPLATES = Path(__file__).parent / "templates"
POINTS = {"1": 1.0, "tie": 0.5, "2": 0.0}
"""Of the answer that stands first."""


@dataclass(frozen=True)
class Contender:
    """A model by the name that reports give it, and the records of what it wrote."""

    model: str
    records: Sequence[Record]


@dataclass(frozen=True)
class Pair:
    """One item as raters see it; `answers` in the order in which they stand."""

    key: str
    prompt: str
    answers: tuple[str, str]


@dataclass(frozen=True)
class Place:
    """What raters do not see of an item: the number, 0 or 1, of the model whose answer stands first."""

    first: int
    subtask: str
    cluster: str


@dataclass(frozen=True)
class Sheet:
    """The files that `write_sheet` wrote, and how many items are in them."""

    html: Path
    pairs: Path
    key: Path
    items: int
    left_out: int
    """Items that one of the models, or both, gave no answer to: skipped, or without a finite log-probability."""


@dataclass(frozen=True)
class Judged:
    """What came back of a sheet."""

    models: tuple[str, str]
    """The first and the second of the judgements' points and failures."""
    items: int
    """On the sheet, judged or not."""
    judgements: tuple[Judgement, ...]


def write_sheet(out: Path, one: Contender, other: Contender, prompts: Mapping[str, str], seed: int) -> Sheet:
    """Write `out`.html, .jsonl and .key.json for the items of two models' records, in the order of the first's.

    Of several samples `preference.shown` chooses the one that is shown.

    Args:
        prompts: the texts by their hash, as records name them.
        seed: which answer stands first is drawn from it and the item's key alone.

    Raises:
        ConfigError: the models have one name, were asked different items or prompts, or there is nothing to show.
    """
    _check_comparable(one, other)
    ours, theirs = ({record.key: record for record in each.records} for each in (one, other))
    pairs: list[Pair] = []
    places: dict[str, Place] = {}
    for mine in ours.values():
        samples = shown(mine.samples), shown(theirs[mine.key].samples)
        if samples[0] is None or samples[1] is None:
            continue
        if mine.prompt_hash not in prompts:
            raise ConfigError(f"{mine.key}: its prompt is not at hand; the benchmark's files are not those of then")
        answers = _clean(samples[0].text), _clean(samples[1].text)
        first = _first(seed, mine.key)
        pairs.append(Pair(mine.key, _clean(prompts[mine.prompt_hash]), answers if first == 0 else answers[::-1]))
        places[mine.key] = Place(first, mine.subtask, mine.cluster)
    if not pairs:
        raise ConfigError(f"{one.model} and {other.model}: no item has an answer of both, so there is nothing to judge")
    html, blinded, key = _write(out, (one.model, other.model), seed, pairs, places)
    return Sheet(html, blinded, key, len(pairs), left_out=len(ours) - len(pairs))


def read_judgements(paths: Sequence[Path], key: Path) -> Judged:
    """The judgements in files that a sheet's page saved, resolved by the sheet's key.

    Where a rater judged an item twice, the later line counts, in the order of the files. Raters without a name are told
    apart by their files.

    Raises:
        DataError: a file is malformed, or was made on another sheet, or nobody has judged anything.
    """
    document = json_document(key)
    with expecting(key, "the key of a sheet"):
        sheet, models = text(document["sheet"]), (text(document["one"]), text(document["other"]))
        places = {name: Place(**place) for name, place in document["items"].items()}
    found: dict[tuple[str, str], Judgement] = {}
    for path in paths:
        for number, line in json_lines(path, STRICT):
            with expecting(path, "a judgement with sheet, rater, key, better and failed", number):
                rater, name = text(line["rater"]).strip() or str(path), text(line["key"])
                if line["sheet"] != sheet:
                    raise DataError(f"{path}:{number}: of sheet {line['sheet']!s:.40}, but {key} is the key of {sheet}")
                if name not in places:
                    raise DataError(f"{path}:{number}: {name} is no item of the sheet")
                if line["better"] not in POINTS:
                    raise DataError(f"{path}:{number}: better is {line['better']!r:.40}; expected 1, 2 or tie")
                found[rater, name] = _judgement(name, places[name], rater, line)
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no judgement in it")
    return Judged(models, len(places), tuple(found.values()))


def _check_comparable(one: Contender, other: Contender) -> None:
    mine, theirs = ({record.key: record.prompt_hash for record in each.records} for each in (one, other))
    names = f"{one.model} and {other.model}"
    if one.model == other.model:
        raise ConfigError(f"{one.model}: both models have this name; give them two")
    if alone := [key for key in [*mine, *theirs] if key not in mine or key not in theirs]:
        raise ConfigError(f"{names}: {len(alone)} items were asked of one of them only, the first is {alone[0]}")
    if changed := [key for key in mine if mine[key] != theirs[key]]:
        raise ConfigError(
            f"{names}: {len(changed)} of {len(mine)} items had another prompt, the first is {changed[0]};"
            " ask both in the same setting and version"
        )


def _first(seed: int, key: str) -> int:
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()[0] % 2


def _clean(answer: str) -> str:
    """Without white space around it, and without halves of surrogate pairs, which no file can hold."""
    return answer.strip().encode(errors="replace").decode()


def _write(
    out: Path, models: tuple[str, str], seed: int, pairs: Sequence[Pair], places: Mapping[str, Place]
) -> list[Path]:
    key = {"one": models[0], "other": models[1], "seed": seed, "items": {k: asdict(v) for k, v in places.items()}}
    lines = [asdict(pair) for pair in pairs]
    sheet = hashlib.sha256(json.dumps([key, lines]).encode()).hexdigest()[:12]
    files = [out.with_name(f"{out.name}{ending}") for ending in (".html", ".jsonl", ".key.json")]
    contents = (
        _page(sheet, pairs),
        "".join(f"{json.dumps({'sheet': sheet, **line}, ensure_ascii=False)}\n" for line in lines),
        json.dumps({"sheet": sheet, **key}, indent=1, ensure_ascii=False),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, written in zip(files, contents, strict=True):
        write_atomically(path, written)
    return files


def _page(sheet: str, pairs: Sequence[Pair]) -> str:
    """The sheet as one document: all that comes from models and benchmarks is escaped, and stands outside the script.

    The page itself forbids any other script or style, by their hashes, and any connection.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style, script = ((TEMPLATES / f"side_by_side.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return environment.get_template("side_by_side.html").render(
        sheet=sheet,
        pairs=pairs,
        style=style,
        script=script,
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
    )


def _source_hash(source: str) -> str:
    """By which a Content-Security-Policy names a script or style (W3C, CSP level 3, §2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _judgement(key: str, place: Place, rater: str, line: Mapping[str, Any]) -> Judgement:
    points = POINTS[line["better"]]
    failed = ("1" in line["failed"], "2" in line["failed"])
    if place.first == 1:
        points, failed = 1 - points, (failed[1], failed[0])
    return Judgement(key, place.subtask, place.cluster, rater, points, failed)
