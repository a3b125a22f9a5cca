"""TyDiQA's gold passages: eight languages, one shot that is never scored, and words of the passage as answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import DataError
from flanscale.evaluation.benchmarks import open_benchmark
from flanscale.evaluation.item import Ask, Asked
from flanscale.evaluation.metrics import METRICS

SHORT = "Kahawa ni kinywaji kinachotengenezwa kwa mbegu za mbuni. " * 3
LONG = SHORT * 4


def paragraph(context: str, *questions: tuple[str, str, list[str]]) -> dict[str, Any]:
    qas = [
        {"id": name, "question": question, "answers": [{"text": answer, "answer_start": 0} for answer in answers]}
        for name, question, answers in questions
    ]
    return {"context": context, "qas": qas}


def write(folder: Path, language: str, split: str, *paragraphs: dict[str, Any]) -> None:
    (folder / split).mkdir(exist_ok=True)
    record = {"data": [{"title": "", "paragraphs": [one]} for one in paragraphs]}
    (folder / split / f"{language}_tydiqa_{split}.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Swahili with a train file, Finnish without, and English."""
    write(
        tmp_path, "swahili", "train",
        paragraph(LONG, ("swahili-1-0", "Ni ndefu?", ["mbuni"])),
        paragraph(f" {SHORT}", ("swahili-2-0", "Kahawa ni nini? ", ["kinywaji"])),
    )  # fmt: skip
    write(
        tmp_path, "swahili", "dev",
        paragraph("Mto Nile.", ("swahili--3-0", "Mto gani?", ["Nile", "Mto Nile", "Nile"])),
        paragraph("Mto Nile.", ("swahili-4-1", "Upi?", ["Nile"])),
        paragraph("Mwaka 1984.", ("swahili-5-0", "Lini?", ["1984"])),
    )  # fmt: skip
    write(
        tmp_path, "finnish", "dev",
        paragraph("Volga on joki.", ("finnish-6-0", "Mikä joki?", ["Volga"])),
        paragraph(SHORT + "A", ("finnish-7-0", "Kaksi?", ["kahawa", "mbuni"])),
        paragraph(SHORT + "B", ("finnish-8-0", "Pitkä?", [SHORT.strip()])),
        paragraph(SHORT + "C", ("finnish-9-0", "Eka?", ["mbuni"]), ("finnish-9-1", "Toka?", ["mbegu"])),
        paragraph(SHORT + "D", ("finnish-10-0", "Mikä?", ["kinywaji"])),
    )  # fmt: skip
    write(tmp_path, "english", "dev", paragraph("The Nile.", ("english-11-0", "Which river?", ["Nile"])))
    return tmp_path


def asked(folder: Path, line: str = "tydiqa") -> Asked:
    return open_benchmark("tydiqa", folder).asked(Ask.parse(line))


def extracted(folder: Path, text: str) -> str | None:
    extract = open_benchmark("tydiqa", folder).settings[0].extract
    assert extract
    return extract(text, asked(folder).items[0])


def fingerprint(folder: Path) -> str:
    """Of every prompt."""
    whole = hashlib.sha256()
    for item in asked(folder).items:
        whole.update(f"{item.key}\0{item.prompt.text()}\0".encode())
    return whole.hexdigest()[:16]


def test_a_question_follows_its_passage_and_one_shot_and_is_scored_by_exact_match_first(folder: Path) -> None:
    (setting,) = open_benchmark("tydiqa", folder).settings
    assert (setting.name, setting.shots, setting.metrics, setting.stop) == ("direct", 1, ("qa_exact", "qa_f1"), ("\n",))
    item = next(item for item in asked(folder).items if item.key == "swahili/5-0")
    assert item.prompt.text() == (
        f"Passage: {SHORT.strip()}\nQuestion: Kahawa ni nini?\nAnswer: kinywaji\n\n"
        "Passage: Mwaka 1984.\nQuestion: Lini?\nAnswer:"
    )


def test_the_shot_is_the_first_short_question_of_the_train_file(folder: Path) -> None:
    shots = {shot for item in asked(folder).items if item.subtask == "swahili" for shot in item.prompt.shots}
    assert len(shots) == 1
    assert "Kahawa ni nini?" in shots.pop()


def test_a_train_passage_that_is_asked_about_too_is_no_shot(folder: Path) -> None:
    write(folder, "swahili", "dev", paragraph(f" {SHORT}", ("swahili-12-0", "Nini?", ["mbegu"])))
    (item,) = (item for item in asked(folder).items if item.subtask == "swahili")
    assert "Ni ndefu?" in item.prompt.text()


def test_without_a_train_file_a_dev_question_is_the_shot_and_never_scored(folder: Path) -> None:
    for line in ("tydiqa", "tydiqa/direct-0shot"):
        whole = asked(folder, line)
        finnish = [item.key for item in whole.items if item.subtask == "finnish"]
        assert finnish == ["finnish/6-0", "finnish/7-0", "finnish/8-0", "finnish/9-0", "finnish/9-1"]
        assert whole.notes == (
            "finnish: without a train file, finnish-10-0 of the dev file is the shot and is not scored.",
            "Items here, of those that are published: finnish 6 of 782, swahili 3 of 499.",
        )
    shots = {shot for item in asked(folder).items if item.subtask == "finnish" for shot in item.prompt.shots}
    assert shots == {f"Passage: {SHORT}D\nQuestion: Mikä?\nAnswer: kinywaji\n\n"}


def test_no_more_than_one_shot_can_be_asked(folder: Path) -> None:
    assert all(not item.prompt.shots for item in asked(folder, "tydiqa/direct-0shot").items)
    with pytest.raises(DataError, match="tydiqa/direct has one shot a language; asked for 2"):
        asked(folder, "tydiqa/direct-2shot")


def test_references_are_the_distinct_answers_as_they_stand_in_the_file(folder: Path) -> None:
    references = {item.key: item.references for item in asked(folder).items}
    assert references["swahili/-3-0"] == ("Nile", "Mto Nile")
    assert references["finnish/8-0"] == (SHORT.strip(),)


def test_questions_about_one_passage_are_one_cluster(folder: Path) -> None:
    cluster = {item.key: item.cluster for item in asked(folder).items}
    assert cluster["swahili/-3-0"] == cluster["swahili/4-1"] != cluster["swahili/5-0"]
    assert cluster["finnish/9-0"] == cluster["finnish/9-1"]


def test_languages_that_are_not_here_are_named_and_english_is_none_of_them(folder: Path) -> None:
    whole = asked(folder)
    assert whole.missing == ("arabic", "bengali", "indonesian", "korean", "russian", "telugu")
    assert list(whole.floors) == ["finnish", "swahili"]


@pytest.mark.parametrize("text", [" Mto Nile.", "Mto Nile.\nPassage: x", "\n Mto Nile. \n", "mto nile"])
def test_the_first_line_is_the_answer(folder: Path, text: str) -> None:
    answer = extracted(folder, text)
    assert answer
    assert METRICS["qa_exact"](answer, ["Nile", "Mto Nile"]) == 100.0


def test_an_empty_line_is_no_answer(folder: Path) -> None:
    assert extracted(folder, " \n ") is None


def test_guessing_scores_nought_and_the_most_frequent_answer_what_it_is_right_in(folder: Path) -> None:
    floor = asked(folder).floors["swahili"]
    assert (floor.paper, floor.chance) == (0.0, 0.0)
    assert floor.majority == pytest.approx(100 * 2 / 3)


def test_items_do_not_depend_on_the_order_in_which_files_were_made(folder: Path, tmp_path: Path) -> None:
    before = asked(folder)
    for path in sorted(tmp_path.rglob("*.json"), reverse=True):
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    assert asked(folder) == before


@pytest.mark.parametrize(
    ("question", "answers", "name"),
    [
        ("Lini?", [], "swahili-1"),
        ("Lini?", [" "], "swahili-1"),
        (" ", ["a"], "swahili-1"),
        ("Lini?", ["a"], "swahili-0"),
    ],
)
def test_a_question_without_words_answer_or_id_is_named(
    folder: Path, question: str, answers: list[str], name: str
) -> None:
    write(folder, "swahili", "dev", paragraph("x", ("swahili-0", "Nani?", ["b"]), (name, question, answers)))
    with pytest.raises(DataError, match=rf"swahili_tydiqa_dev\.json: {name}: expected an id of its own, a question"):
        asked(folder)


def test_a_file_that_was_cut_or_has_nothing_left_to_score_is_named(folder: Path) -> None:
    path = folder / "dev" / "finnish_tydiqa_dev.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(DataError, match=r"finnish_tydiqa_dev\.json:1: not JSON"):
        asked(folder)
    write(folder, "finnish", "dev", paragraph("Volga on joki.", ("finnish-6-0", "Mikä joki?", ["Volga"])))
    with pytest.raises(DataError, match=r"finnish_tydiqa_dev\.json: no question is left beside"):
        asked(folder)


def test_a_folder_without_one_of_the_languages_is_an_error(folder: Path) -> None:
    for language in ("finnish", "swahili"):
        (folder / "dev" / f"{language}_tydiqa_dev.json").unlink()
    with pytest.raises(DataError, match=r"expected dev/<language>_tydiqa_dev\.json of arabic, bengali"):
        asked(folder)


def test_a_changed_prompt_has_a_version_of_its_own(folder: Path) -> None:
    told = (open_benchmark("tydiqa", folder).version, fingerprint(folder))
    assert told == (1, "d00518fb6dae96d7"), (
        "a changed prompt raises the benchmark's version: scores are compared within one"
    )


@pytest.mark.data
def test_the_published_questions_make_the_prompts_of_this_version(shared_data: Path) -> None:
    folder = shared_data / "tydiqa"
    whole = asked(folder)
    told = (open_benchmark("tydiqa", folder).version, fingerprint(folder))
    assert told == (1, "e861d2e5ce563c5c"), (
        "a changed prompt raises the benchmark's version: scores are compared within one"
    )
    assert (len(whole.items), len(whole.notes), whole.missing) == (4631, 6, ())


@pytest.mark.data
def test_published_passages_answer_their_questions_and_no_shot_is_scored(shared_data: Path) -> None:
    (setting,) = open_benchmark("tydiqa", shared_data / "tydiqa").settings
    assert setting.extract
    for item in asked(shared_data / "tydiqa").items:
        answer = setting.extract(f" {item.references[-1]}\n", item)
        assert answer
        assert METRICS["qa_exact"](answer, item.references) == 100.0, item.key
        assert item.prompt.question not in item.prompt.shots[0]
        assert any(reference in item.prompt.question for reference in item.references), item.key
