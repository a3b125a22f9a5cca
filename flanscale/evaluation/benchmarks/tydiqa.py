"""TyDiQA's gold passage task (Clark et al. 2020): answers stand in a passage, in eight languages without English.

    direct   Passage: <passage> Question: <question> Answer: <words of the passage>; 1 shot

Chung et al. (2022, appendix D.3) ask it with one shot and count exact matches; neither they nor TyDiQA's authors give
the words of a prompt, so these are ours. The first line that the model writes is its answer.

A language's shot is the first short and plain question of its train file (`_worked`). Where there is no such file it is
one of the dev file, which is then never scored, also without shots. Questions about one passage are one cluster.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flanscale.errors import DataError
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.metrics import qa_exact
from flanscale.evaluation.subtasks import of_other_sizes
from flanscale.tasks import benchmark_files as files

QUESTIONS = {
    "arabic": 921,
    "bengali": 113,
    "finnish": 782,
    "indonesian": 565,
    "korean": 276,
    "russian": 812,
    "swahili": 499,
    "telugu": 669,
}
"""Of the development split, by language: the eight of the paper."""
LANGUAGES = tuple(QUESTIONS)
PASSAGE = range(100, 301)  # characters: short, but long enough to hold more than the answer
ANSWER = range(1, 31)


def benchmark(folder: Path) -> Benchmark:
    direct = Setting("direct", 1, _first_line, ("qa_exact", "qa_f1"), max_new_tokens=96, stop=("\n",))
    return Benchmark("tydiqa", 1, (direct,), partial(_read, folder), ("dev",))


def _read(folder: Path, setting: str, shots: int, split: str) -> Asked:
    if shots > 1:
        raise DataError(f"{folder}: tydiqa/{setting} has one shot a language; asked for {shots}")
    train, dev = _by_language(folder, "train"), _by_language(folder, split)
    if not dev:
        raise DataError(f"{folder}: expected {split}/<language>_tydiqa_{split}.json of {', '.join(LANGUAGES)}")
    items: list[Item] = []
    floors: dict[str, Floor] = {}
    notes: list[str] = []
    for language, questions in dev.items():
        worked = _worked(train.get(language, []), questions)
        scored = [question for question in questions if question is not worked]
        if len(scored) < len(questions):
            notes.append(
                f"{language}: without a train file, {worked.id} of the dev file is the shot and is not scored."
            )
        if not scored:
            raise DataError(f"{_path(folder, language, split)}: no question is left beside the one that is the shot")
        prompts = (f"{_asked(worked)} {worked.answers[0]}\n\n",) * shots
        own = [_item(question, prompts) for question in scored]
        items += own
        floors[language] = Floor(0.0, 0.0, _majority(own))
    notes += of_other_sizes({language: len(questions) for language, questions in dev.items()}, QUESTIONS)
    return Asked(tuple(items), floors, tuple(language for language in LANGUAGES if language not in dev), tuple(notes))


def _by_language(folder: Path, split: str) -> dict[str, list[files.Passage]]:
    found: dict[str, list[files.Passage]] = {}
    seen = set()
    for one in files.tydiqa(folder, split):
        if one.language not in LANGUAGES:
            continue
        if (one.language, one.id) in seen or not one.answers or not all(map(str.strip, (one.question, *one.answers))):
            path = _path(folder, one.language, split)
            raise DataError(f"{path}: {one.id}: expected an id of its own, a question, and answers that are not empty")
        seen.add((one.language, one.id))
        found.setdefault(one.language, []).append(one)
    return found


def _path(folder: Path, language: str, split: str) -> Path:
    return folder / split / f"{language}_tydiqa_{split}.json"


def _worked(train: Sequence[files.Passage], dev: Sequence[files.Passage]) -> files.Passage:
    """The language's shot: the first that is short and plain; the first at all where none is."""
    questions_about = Counter(one.context for one in (*train, *dev))
    choice = train or dev
    return next((one for one in choice if questions_about[one.context] == 1 and _is_plain(one)), choice[0])


def _is_plain(one: files.Passage) -> bool:
    """Whether passage and answer are short, and the annotators agree on the answer."""
    return len(one.answers) == 1 and len(one.answers[0]) in ANSWER and len(one.context) in PASSAGE


def _item(one: files.Passage, shots: tuple[str, ...]) -> Item:
    passage = hashlib.sha256(one.context.encode()).hexdigest()[:16]
    return Item(one.key, one.language, Prompt("", shots, _asked(one)), one.answers, cluster=f"{one.language}/{passage}")


def _asked(one: files.Passage) -> str:
    return f"Passage: {one.context.strip()}\nQuestion: {one.question.strip()}\nAnswer:"


def _majority(items: Sequence[Item]) -> float:
    """What the most frequent answer scores, in percent."""
    most = Counter(answer for item in items for answer in item.references).most_common(1)[0][0]
    return sum(qa_exact(most, item.references) for item in items) / len(items)


def _first_line(text: str, item: Item) -> str | None:
    return text.strip().partition("\n")[0].rstrip() or None
